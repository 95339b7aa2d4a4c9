"""The sink of the benchmarks: nginx with Lua, tens of thousands of PUTs a second, and nothing is stored."""

from __future__ import annotations

import http.client
import os
import secrets

from tests.servers import debian
from tests.servers.base import S3Endpoint, S3Server, random_access_key, random_name
from tests.servers.certificates import make_certificates
from tests.servers.process import accepts_connections, free_ports, wait_until

_CONFIGURATION = """\
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 0;
  client_body_buffer_size 16m;
  keepalive_requests 100000000;
  lua_shared_dict counts 1m;
  init_by_lua_file {directory}/sink.lua;
  server {{
    listen 127.0.0.1:{port};
    location = /counts {{ content_by_lua_block {{ counts() }} }}
    location / {{ content_by_lua_block {{ answer(0) }} }}
  }}
  server {{
    listen 127.0.0.1:{slow_port};
    location / {{ content_by_lua_block {{ answer(0.02) }} }}
  }}
  server {{
    listen 127.0.0.1:{tls_port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{ content_by_lua_block {{ answer(0) }} }}
  }}
}}
"""

_LUA = r"""
local prolog = '<?xml version="1.0" encoding="UTF-8"?>'
local namespace = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'

local function checksums(headers)
  local found = {}
  for name, value in pairs(headers) do
    local algorithm = name:match("^x%-amz%-checksum%-(.+)$")
    if algorithm and algorithm ~= "algorithm" and algorithm ~= "type" then found[algorithm] = value end
  end
  return found
end

local function body()
  ngx.req.clear_header("If-None-Match")  -- else nginx itself answers 304, since the answer has an ETag
  ngx.req.read_body()
  local data = ngx.req.get_body_data()
  if data then return data end
  local name = ngx.req.get_body_file()
  if not name then return "" end
  local file = io.open(name, "rb")
  data = file:read("*a")
  file:close()
  return data
end

local function put()
  local data, headers = body(), ngx.req.get_headers(0)
  ngx.header["ETag"] = '"' .. ngx.md5(data) .. '"'
  for algorithm, value in pairs(checksums(headers)) do
    ngx.header["x-amz-checksum-" .. algorithm] = value
    if not ngx.req.get_uri_args().partNumber then ngx.header["x-amz-checksum-type"] = "FULL_OBJECT" end
  end
  ngx.shared.counts:incr("puts", 1, 0)
  ngx.shared.counts:incr("bytes", #data, 0)
  ngx.header["Content-Length"] = 0
end

local function create(headers)
  ngx.header["x-amz-checksum-algorithm"] = headers["x-amz-checksum-algorithm"]
  ngx.header["x-amz-checksum-type"] = headers["x-amz-checksum-type"]
  local id = "upload-" .. ngx.shared.counts:incr("creates", 1, 0)
  return prolog .. "<InitiateMultipartUploadResult" .. namespace .. "<Bucket>b</Bucket><Key>k</Key><UploadId>" .. id ..
    "</UploadId></InitiateMultipartUploadResult>"
end

-- The ETag of a multipart object is the MD5 of the parts' MD5s, which the request lists.
local function complete(headers)
  local digests, count = {}, 0
  for etag in body():gmatch("<ETag>[^<]-(%x+)[^<%x]*</ETag>") do
    count = count + 1
    digests[count] = etag:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  end
  ngx.shared.counts:incr("completes", 1, 0)
  local proof = ""
  for algorithm, value in pairs(checksums(headers)) do
    local element = "Checksum" .. algorithm:upper()
    proof = proof .. "<" .. element .. ">" .. value .. "</" .. element .. "><ChecksumType>" ..
      (headers["x-amz-checksum-type"] or "FULL_OBJECT") .. "</ChecksumType>"
  end
  return prolog .. "<CompleteMultipartUploadResult" .. namespace .. "<Location>x</Location><Bucket>b</Bucket>" ..
    "<Key>k</Key><ETag>&quot;" .. ngx.md5(table.concat(digests)) .. "-" .. count .. "&quot;</ETag>" .. proof ..
    "</CompleteMultipartUploadResult>"
end

function answer(delay)
  local method, query = ngx.req.get_method(), ngx.req.get_uri_args()
  if method == "PUT" then
    put()
    if delay > 0 then ngx.sleep(delay) end
    return ngx.exit(200)
  end
  local text
  local headers = ngx.req.get_headers(0)
  if method == "POST" and query.uploads ~= nil then text = create(headers)
  elseif method == "POST" then text = complete(headers) end
  if delay > 0 then ngx.sleep(delay) end
  if method == "HEAD" then return ngx.exit(404) end
  if method == "DELETE" then return ngx.exit(204) end
  text = text or (prolog .. "<ListBucketResult" .. namespace .. "<Name>b</Name><KeyCount>0</KeyCount>" ..
    "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>")
  ngx.header["Content-Type"] = "application/xml"
  ngx.header["Content-Length"] = #text
  ngx.print(text)
end

function counts()
  local shared = ngx.shared.counts
  ngx.say((shared:get("puts") or 0) .. " " .. (shared:get("bytes") or 0) .. " " .. (shared:get("completes") or 0))
  if ngx.req.get_uri_args().reset then shared:flush_all() end
end
"""


class NginxSink(S3Server):
    """The sink: every PUT is answered with its MD5 and the checksums it brought, multipart uploads as well.

    `endpoint` answers at once, `slow_endpoint` 20 milliseconds later, `tls_endpoint` at once over TLS. Any bucket and
    any credentials will do. It has one worker process; the body is hashed, so the bytes are really read. Aws-chunked
    framing is taken for content: over it the ETag is not that of the payload.
    """

    name = "nginx"

    def __init__(self) -> None:
        super().__init__()
        self.slow_endpoint = self.endpoint
        self.tls_endpoint = self.endpoint

    def _launch(self) -> None:
        debian.require("nginx")
        program = debian.find_program("nginx")
        module = debian.find_file(debian.REQUIREMENTS["nginx"].files[0])
        assert program is not None
        assert module is not None
        port, slow_port, tls_port = free_ports(3)
        certificates = make_certificates(self.directory)
        (self.directory / "sink.lua").write_text(_LUA)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                modules=module.parent,
                directory=self.directory,
                # The directory belongs to the one who runs the tests; as root the worker would change its user.
                user="user root;" if os.geteuid() == 0 else "",
                port=port,
                slow_port=slow_port,
                tls_port=tls_port,
                certificate=certificates.certificate,
                key=certificates.key,
            )
        )
        process = self._run("nginx", [program, "-c", configuration, "-e", self.directory / "error.log"])
        for each in (port, slow_port, tls_port):
            self._wait_for(each)
        assert process.alive
        access_key, secret_key, bucket = random_access_key(), secrets.token_hex(20), random_name("bucket")
        self.endpoint, self.slow_endpoint = (
            S3Endpoint(
                endpoint_url=f"http://127.0.0.1:{each}", access_key=access_key, secret_key=secret_key, bucket=bucket
            )
            for each in (port, slow_port)
        )
        self.tls_endpoint = S3Endpoint(
            endpoint_url=f"https://127.0.0.1:{tls_port}",
            access_key=access_key,
            secret_key=secret_key,
            bucket=bucket,
            ca_bundle=certificates.authority,
        )

    def _wait_for(self, port: int) -> None:
        wait_until(lambda: accepts_connections(port), what="nginx listened", processes=self.processes)

    def counts(self, *, reset: bool = False) -> tuple[int, int, int]:
        """Return the numbers of PUTs, of their bytes and of completed multipart uploads since the last reset."""
        connection = http.client.HTTPConnection(self.endpoint_url.partition("://")[2], timeout=10)
        connection.request("GET", "/counts" + ("?reset=1" if reset else ""))
        puts, size, completes = connection.getresponse().read().split()
        connection.close()
        return int(puts), int(size), int(completes)
