"""HTTP/1.1 to providers: connections that are used again, proxies, and what a status means."""
