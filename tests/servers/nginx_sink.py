"""The sink of the benchmarks: nginx with Lua, tens of thousands of PUTs a second; of objects only digests are kept."""

from __future__ import annotations

import http.client
import os
import secrets
from dataclasses import dataclass
from urllib.parse import unquote

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
  client_body_buffer_size 64m;  # what is larger goes through a file, which would cost whoever sends large parts
  lua_socket_buffer_size 96k;
  keepalive_requests 100000000;
  lua_shared_dict counts 1m;
  lua_shared_dict parts 64m;
  lua_shared_dict objects 768m;
  lua_shared_dict bodies 64m;
  init_by_lua_file {directory}/sink.lua;
  server {{
    listen 127.0.0.1:{port};
    location = /counts {{ content_by_lua_block {{ counts() }} }}
    location = /objects {{ content_by_lua_block {{ objects() }} }}
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
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { unsigned int state[4], low, high, data[16], number; } MD5_CTX;
  int MD5_Init(MD5_CTX *context);
  int MD5_Update(MD5_CTX *context, const void *data, size_t size);
  int MD5_Final(unsigned char *digest, MD5_CTX *context);
]]

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

-- MD5 of a body as it comes in. A large one that is kept as a whole first takes the sink twice as long, and a sink that
-- is slower than those who send would measure itself.
local function digest_in_passing(size)
  local socket = assert(ngx.req.socket())
  socket:settimeout(60000)
  local context, left = ffi.new("MD5_CTX"), size
  ffi.C.MD5_Init(context)
  while left > 0 do
    local data, problem = socket:receiveany(98304)
    if not data then
      ngx.log(ngx.ERR, "a body broke off: ", problem)
      ngx.exit(400)
    end
    ffi.C.MD5_Update(context, data, #data)
    left = left - #data
  end
  local digest = ffi.new("unsigned char[16]")
  ffi.C.MD5_Final(digest, context)
  return (ffi.string(digest, 16):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

local function body()
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

-- The content of an aws-chunked body; the checksum in its trailer joins the headers.
local function unchunked(data, headers)
  local pieces, position = {}, 1
  while true do
    local from, to, length = data:find("^(%x+)[^\r\n]*\r\n", position)
    length = tonumber(length, 16)
    if length == 0 then
      for name, value in data:sub(to + 1):gmatch("(x%-amz%-checksum%-[%w]+):([^\r\n]+)") do headers[name] = value end
      return table.concat(pieces)
    end
    pieces[#pieces + 1] = data:sub(to + 1, to + length)
    position = to + length + 3
  end
end

local function path()
  return ngx.var.request_uri:match("^[^?]*")
end

-- What a key holds is written as size:md5, or for an object of parts as the list of those of its parts.
local function keep(shared, name, what)
  local kept, problem = shared:safe_set(name, what)
  if not kept then
    ngx.log(ngx.ERR, name, " cannot be remembered: ", problem)
    ngx.exit(500)
  end
end

local function taken(condition)
  if condition == "*" and ngx.shared.objects:get(path()) then
    ngx.status = 412
    return prolog .. "<Error><Code>PreconditionFailed</Code><Message>The key is taken.</Message></Error>"
  end
end

local function put(query)
  local headers = ngx.req.get_headers(0)
  ngx.req.clear_header("If-None-Match")  -- else nginx itself answers 304, since the answer has an ETag
  local size, digest = tonumber(headers["content-length"]), nil
  local chunked = (headers["x-amz-content-sha256"] or ""):sub(1, 10) == "STREAMING-"
  if size and size > 65536 and not chunked then
    digest = digest_in_passing(size)
  else
    local data = body()
    if chunked then data = unchunked(data, headers) end
    size, digest = #data, ngx.md5(data)
    if path():find("/kept/", 1, true) and size <= 65536 then keep(ngx.shared.bodies, path(), data) end
  end
  local refusal = taken(headers["if-none-match"])
  if refusal then return refusal end
  if query.partNumber then
    keep(ngx.shared.parts, query.uploadId .. " " .. tonumber(query.partNumber), size .. ":" .. digest)
  else
    keep(ngx.shared.objects, path(), size .. ":" .. digest)
  end
  ngx.header["ETag"] = '"' .. digest .. '"'
  for algorithm, value in pairs(checksums(headers)) do
    ngx.header["x-amz-checksum-" .. algorithm] = value
    if not query.partNumber then ngx.header["x-amz-checksum-type"] = "FULL_OBJECT" end
  end
  ngx.shared.counts:incr("puts", 1, 0)
  ngx.shared.counts:incr("bytes", size, 0)
end

local function head()
  local what = ngx.shared.objects:get(path())
  if not what then return ngx.exit(404) end
  local size, digest, count = 0, "", 0
  for length, md5 in what:gmatch("(%d+):(%x+)") do size, digest, count = size + length, digest .. md5, count + 1 end
  if count > 1 then
    digest = ngx.md5(digest:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)) .. "-" .. count
  end
  ngx.header["ETag"] = '"' .. digest .. '"'
  ngx.header["Content-Length"] = size
  ngx.header["Last-Modified"] = ngx.http_time(ngx.time())
  return ngx.exit(200)
end

-- Small objects below kept/ can be read, by a range that begins at their beginning or as a whole.
local function get(data)
  local range = ngx.var.http_range
  ngx.req.clear_header("Range")
  ngx.header["ETag"] = '"' .. ngx.md5(data) .. '"'
  ngx.header["Last-Modified"] = ngx.http_time(ngx.time())
  ngx.header["Content-Length"] = #data
  if range and range:find("^bytes=0%-") then
    ngx.status = 206
    ngx.header["Content-Range"] = "bytes 0-" .. (#data - 1) .. "/" .. #data
  end
  ngx.print(data)
end

local function create()
  local headers = ngx.req.get_headers(0)
  ngx.header["x-amz-checksum-algorithm"] = headers["x-amz-checksum-algorithm"]
  ngx.header["x-amz-checksum-type"] = headers["x-amz-checksum-type"]
  local id = "upload-" .. ngx.shared.counts:incr("creates", 1, 0)
  return prolog .. "<InitiateMultipartUploadResult" .. namespace .. "<Bucket>b</Bucket><Key>k</Key><UploadId>" .. id ..
    "</UploadId></InitiateMultipartUploadResult>"
end

-- The ETag of a multipart object is the MD5 of the parts' MD5s, which the request lists.
local function complete(id)
  local headers = ngx.req.get_headers(0)
  ngx.req.clear_header("If-None-Match")
  local request = body()
  local refusal = taken(headers["if-none-match"])
  if refusal then return refusal end
  local digests, parts = {}, {}
  for part in request:gmatch("<Part>(.-)</Part>") do
    -- The quotes around it may be written as &#34;, which looks hexadecimal too.
    local digest = (part:match("<ETag>(.-)</ETag>") or ""):match(("%x"):rep(32))
    local number = part:match("<PartNumber>(%d+)</PartNumber>")
    local kept = ngx.shared.parts:get(id .. " " .. tonumber(number))
    if not kept or kept:match(":(%x+)") ~= digest then
      ngx.status = 400
      return prolog .. "<Error><Code>InvalidPart</Code><Message>Part " .. number .. " is not there.</Message></Error>"
    end
    parts[#parts + 1] = kept
    digests[#digests + 1] = digest:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end)
  end
  keep(ngx.shared.objects, path(), table.concat(parts, ","))
  ngx.shared.counts:incr("completes", 1, 0)
  local proof = ""
  for algorithm, value in pairs(checksums(headers)) do
    local element = "Checksum" .. algorithm:upper()
    proof = proof .. "<" .. element .. ">" .. value .. "</" .. element .. "><ChecksumType>" ..
      (headers["x-amz-checksum-type"] or "FULL_OBJECT") .. "</ChecksumType>"
  end
  return prolog .. "<CompleteMultipartUploadResult" .. namespace .. "<Location>x</Location><Bucket>b</Bucket>" ..
    "<Key>k</Key><ETag>&quot;" .. ngx.md5(table.concat(digests)) .. "-" .. #parts .. "&quot;</ETag>" .. proof ..
    "</CompleteMultipartUploadResult>"
end

function answer(delay)
  local method, query = ngx.req.get_method(), ngx.req.get_uri_args()
  local text
  if method == "PUT" then text = put(query)
  elseif method == "POST" and query.uploads ~= nil then text = create()
  elseif method == "POST" then text = complete(query.uploadId) end
  if delay > 0 then ngx.sleep(delay) end
  if method == "PUT" and not text then
    ngx.header["Content-Length"] = 0
    return ngx.exit(200)
  end
  if method == "HEAD" then return head() end
  if method == "DELETE" then
    ngx.shared.objects:delete(path())
    ngx.shared.bodies:delete(path())
    return ngx.exit(204)
  end
  local kept = method == "GET" and ngx.shared.bodies:get(path())
  if kept then return get(kept) end
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

function objects()
  local shared, lines = ngx.shared.objects, {}
  local function send()
    ngx.print(lines)
    ngx.flush(true)  -- nginx looks through all that is not sent yet each time; with a million lines that takes for ever
    lines = {}
  end
  for _, name in ipairs(shared:get_keys(0)) do
    lines[#lines + 1] = shared:get(name) .. " " .. name .. "\n"
    if #lines == 1000 then send() end
  end
  if #lines > 0 then send() end
  if ngx.req.get_uri_args().reset then
    for _, each in ipairs({shared, ngx.shared.parts}) do
      each:flush_all()
      each:flush_expired()
    end
  end
end
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """An object that was sent in one request, or one part of it."""

    size: int
    md5: str


class NginxSink(S3Server):
    """The sink: every PUT is answered with its MD5 and the checksums it brought, multipart uploads as well.

    `endpoint` answers at once, `slow_endpoint` 20 milliseconds later, `tls_endpoint` at once over TLS. Any bucket and
    any credentials will do. It has one worker process; the body is hashed, so the bytes are really read, and then
    forgotten: what is kept is which keys there are, and the size and the MD5 of each, so that `If-None-Match` and HEAD
    work and one can see afterwards what arrived. Small objects below `kept/` can be read. A list of a bucket is always
    empty.
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

    def objects(self, *, reset: bool = False) -> dict[str, tuple[Piece, ...]]:
        """Return what every bucket holds, by `bucket/key`: one piece, or the parts in their order."""
        connection = http.client.HTTPConnection(self.endpoint_url.partition("://")[2], timeout=300)
        connection.request("GET", "/objects" + ("?reset=1" if reset else ""))
        answer = connection.getresponse()
        found = {}
        for line in answer:
            pieces, _, path = line.decode().rstrip("\n").partition(" ")
            found[unquote(path.removeprefix("/"))] = tuple(
                Piece(int(size), md5) for size, _, md5 in (piece.partition(":") for piece in pieces.split(","))
            )
        connection.close()
        return found
