"""Which hosts an operator lets MCP servers be on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmstream.errors import McpHostRefused
from swarmstream.network.allowed_hosts import AllowedHosts
from swarmstream.network.host_port import url_origin

EVERYTHING = ["*", "0.0.0.0/0", "::/0", "localhost"]


def admits(entries: list[str], url: str) -> bool:
    try:
        AllowedHosts(entries).check_url(url)
    except McpHostRefused:
        return False
    return True


def connects(entries: list[str], host: str, address: str, port: int = 443) -> bool:
    try:
        AllowedHosts(entries).check_address(host, port, address)
    except McpHostRefused:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://127.000.000.001/",
        "http://1.2.3.4.5/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[::ffff:0:7f00:1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[1.2.3.4]/",
        "http://[v1.a]/",
        "http://[::1",
        "http://[::1]x/",
        "http://localhost./",
        "http://exämple.com/",
        "http://①②⑦.0.0.1/",
        "http://loc%61lhost/",
        "http://a..b/",
        "http://-a.example/",
        f"http://{'a.' * 130}example/",
        "http://",
        "http:///mcp",
        "http:example.com",
        "http:/example.com",
        "//example.com/",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript://example.com/",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com#@127.0.0.1/",
        "http://example.com/#fragment",
        "http://example.com\\@127.0.0.1/",
        "http://127.0.0.1\\.example.com/",
        "http://exa mple.com/",
        "http://example.com/\r\nx-injected: 1",
        "http://example.com/\t",
        "http://example.com/é",
        " http://example.com/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:/",
        "http://example.com:+80/",
        "http://example.com:８0/",
        "http://example.com:80:90/",
        f"http://example.com/{'x' * 2_100}",
        "",
    ],
)
def test_an_ambiguous_url_is_refused_even_if_every_host_is_allowed(url: str) -> None:
    assert not admits(EVERYTHING, url)


@pytest.mark.parametrize(
    ("entry", "url", "is_admitted"),
    [
        ("example.com", "https://example.com/mcp?key=1", True),
        ("example.com", "HTTPS://EXAMPLE.com/", True),
        ("Example.COM", "https://example.com:8443/", True),
        ("example.com", "https://www.example.com/", False),
        ("example.com", "https://example.com.evil.test/", False),
        ("example.com", "https://notexample.com/", False),
        ("example.com:8443", "https://example.com:8443/", True),
        ("example.com:443", "https://example.com/", True),
        ("example.com:8443", "https://example.com/", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://notexample.com/", False),
        ("*.example.com:8443", "https://a.example.com:8443/", True),
        ("*.example.com:8443", "https://a.example.com/", False),
        ("*", "https://example.com/", True),
        ("*", "https://93.184.216.34/", True),
        ("*", "https://[2606:4700::1111]/", True),
        ("*:443", "https://93.184.216.34/", True),
        ("*:443", "https://93.184.216.34:444/", False),
        ("*", "http://localhost/", False),
        ("localhost", "http://localhost:8000/", True),
        ("localhost", "http://127.0.0.1/", False),
        ("127.0.0.1", "http://127.0.0.1:8000/", True),
        ("127.0.0.1", "http://localhost/", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8001/", False),
        ("[::1]:8000", "http://[::1]:8000/", True),
        ("::1", "http://[::1]/", True),
        ("[::1]:8000", "http://[::1]/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://intranet/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("intranet", "http://intranet/", True),
        ("my_server", "http://my_server:8000/", True),
    ],
)
def test_an_entry_admits_the_hosts_that_it_names_and_no_others(entry: str, url: str, is_admitted: bool) -> None:
    assert admits([entry], url) == is_admitted


NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_needs_an_entry_of_its_own(address: str) -> None:
    url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
    assert not admits(["*"], url)
    assert admits(["*", address], url)


@pytest.mark.parametrize(
    "address",
    [*NOT_PUBLIC, "::ffff:127.0.0.1", "::ffff:93.184.216.34", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1"],
)
def test_a_name_does_not_lead_to_an_address_that_is_not_public(address: str) -> None:
    assert not connects(["*", "example.com", "*.example.com"], "example.com", address)
    assert not connects(["example.com:443"], "example.com", address)
    assert connects(["example.com", address], "example.com", address)
    assert not connects([address], "example.com", address)
    assert not connects(["example.com", "other.com"], "third.com", address)


def test_a_name_leads_to_public_addresses() -> None:
    assert connects(["example.com"], "EXAMPLE.com", "93.184.216.34")
    assert connects(["*"], "example.com", "2606:4700::1111")
    assert not connects(["example.com"], "other.com", "93.184.216.34")
    assert not connects(["example.com:80"], "example.com", "93.184.216.34", port=443)


def test_localhost_leads_to_the_loopback_only_if_it_is_an_entry() -> None:
    assert connects(["localhost"], "localhost", "127.0.0.1")
    assert connects(["localhost"], "localhost", "::1")
    assert not connects(["localhost:8000"], "localhost", "127.0.0.1", port=8001)
    assert not connects(["localhost"], "localhost", "10.0.0.1")
    assert not connects(["localhost", "example.com"], "example.com", "127.0.0.1")
    assert not connects(["*"], "localhost", "127.0.0.1")


def test_an_address_in_a_url_is_checked_again_when_it_is_connected_to() -> None:
    assert connects(["127.0.0.1"], "127.0.0.1", "127.0.0.1")
    assert not connects(["*"], "127.0.0.1", "127.0.0.1")
    assert not connects(["127.0.0.1:80"], "127.0.0.1", "127.0.0.1", port=81)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "http://example.com",
        "example.com/",
        "example.com:0",
        "example.com:65536",
        "127.0.0.1:65536",
        "example.com:x",
        "example.com.",
        "user@example.com",
        "*example.com",
        "a.*.com",
        "*.",
        "*.1",
        "127.1",
        "0x7f.1",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "[::1",
        "[example.com]",
        "a b",
        "exämple.com",
    ],
)
def test_an_entry_that_names_no_hosts_is_the_operators_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match="names no hosts; write host, host:port"):
        AllowedHosts([entry])


def test_without_entries_no_host_is_admitted_and_the_refusal_explains_why() -> None:
    with pytest.raises(McpHostRefused, match="no MCP servers: its operator sets SWARMSTREAM_MCP_ALLOWED_HOSTS"):
        AllowedHosts([]).check_url("https://example.com/")


def test_userinfo_and_fragments_are_refused_by_name() -> None:
    for url in ("http://user@example.com/", "http://example.com/#a"):
        with pytest.raises(McpHostRefused, match="cannot have a user, a password or a fragment"):
            AllowedHosts(["*"]).check_url(url)


@pytest.mark.parametrize("url", ["http://localhost:8799/", "http://127.0.0.2:8799/", "http://[::1]:8799/"])
def test_a_refusal_on_the_loopback_explains_that_a_name_does_not_allow_its_address(url: str) -> None:
    with pytest.raises(McpHostRefused, match="localhost and"):
        AllowedHosts(["127.0.0.1:8799"]).check_url(url)


def test_a_refusal_names_host_and_port_only() -> None:
    with pytest.raises(McpHostRefused) as refused:
        AllowedHosts(["example.com"]).check_url("https://other.com/secret?key=secret")
    expected = 'the MCP server "other.com:443" is not in this server\'s SWARMSTREAM_MCP_ALLOWED_HOSTS'
    assert refused.value.detail == expected
    assert url_origin("HTTPS://Other.com/secret?key=secret") == "https://other.com:443"
    assert url_origin("http://[::1]:80/") == "http://[::1]:80"


@given(st.text(alphabet="htps:/@#?[].%\\0127fax- \n", max_size=40), st.booleans())
def test_no_url_at_all_gets_out_anything_but_a_refusal(text: str, with_scheme: bool) -> None:
    admits(EVERYTHING, f"http://{text}" if with_scheme else text)
