"""An nginx between a client and a server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx

from tests.conftest import client


@asynccontextmanager
async def nginx_before(url: str, port: int, tmp_path: Path) -> AsyncGenerator[str]:
    """An nginx with the settings that buffer most, in front of a server."""
    config = tmp_path / "nginx.conf"
    config.write_text(f"""
        daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log stderr error;
        events {{}}
        http {{
            access_log off; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;
            client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
            uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {url}; }} }}
        }}
    """)
    process = await asyncio.create_subprocess_exec("nginx", "-c", str(config), "-p", str(tmp_path), "-e", "stderr")
    try:
        async with client(f"http://127.0.0.1:{port}") as http:
            with anyio.fail_after(30):
                while True:
                    try:
                        await http.get("/health")
                        break
                    except httpx.ConnectError:
                        await anyio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
