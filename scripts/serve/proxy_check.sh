#!/usr/bin/env bash
# proxy_check.sh PROGRAM: the configuration of nginx and the backup of examples/serve, tried with `kinora serve` and the model that ships
# with Kinora. Needs nginx, openssl, curl, sqlite3 and python3; opens ports of this machine alone, and leaves nothing behind.
set -euo pipefail
program=$(realpath "$1")
here=$(realpath "$(dirname "$0")/../../examples/serve")
work=$(mktemp -d)
name=clips.example.org
pids=()
end() {
    local status=$?
    [ $status = 0 ] || { tail -n 20 "$work"/*.said "$work"/error.log 2>/dev/null || true; }
    kill "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$work"
    exit $status
}
trap end EXIT

fail() { echo "FAILED  $*" >&2; exit 1; }
ok() { echo "ok      $*"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# field PATH: a value of the JSON on standard input, such as `clips 0 id`.
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if isinstance(v, list) else k], sys.argv[1:], json.load(sys.stdin)))' "$@"; }

begin() { # begin NAME ARGUMENTS: a server that says its address to NAME.said
    local said="$work/$1.said"
    "$program" serve --data "$work/$1" "${@:2}" 2>"$said" &
    server=$!
    pids+=("$server")
    for _ in $(seq 200); do grep -q "Kinora is at" "$said" && return; sleep 0.05; done
    fail "the server did not start: $(cat "$said")"
}

# The server, and nginx with the configuration of the example before it.
plain=$(free_port) secure=$(free_port) inner=$(free_port)
key=$("$program" keys add anna --tier local --data "$work/data" 2>/dev/null | head -n 1)
echo "public_url = \"https://$name:$secure\"" >"$work/kinora.toml"
begin data --config "$work/kinora.toml" --port "$inner"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
sed -e "s/listen 80;/listen 127.0.0.1:$plain;/" -e "s/listen 443 /listen 127.0.0.1:$secure /" -e "s/127.0.0.1:7788/127.0.0.1:$inner/" \
    -e "s|/etc/ssl/kinora|$work|" -e "s|/var/log/nginx|$work|" "$here/nginx.conf" >"$work/site.conf"
mkdir "$work/temp"
cat >"$work/nginx.conf" <<END
pid $work/nginx.pid;
error_log $work/error.log warn;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $work/temp/body;
    proxy_temp_path $work/temp/proxy;
    fastcgi_temp_path $work/temp/fastcgi;
    uwsgi_temp_path $work/temp/uwsgi;
    scgi_temp_path $work/temp/scgi;
    include $work/site.conf;
}
END
nginx=$(command -v nginx || echo /usr/sbin/nginx)
"$nginx" -q -t -c "$work/nginx.conf"
"$nginx" -c "$work/nginx.conf" -g "daemon off;" &
pids+=($!)
for _ in $(seq 100); do [ -s "$work/nginx.pid" ] && break; sleep 0.05; done
url=https://$name:$secure
get() { curl -sS --max-time 60 --cacert "$work/fullchain.pem" --resolve "$name:$secure:127.0.0.1" "$@"; }
as_anna() { get -H "Authorization: Bearer $key" "$@"; }
post() { as_anna -H "Content-Type: application/json" -d "$2" "$url/api/$1"; }

moved=$(curl -sS -o /dev/null -w '%{http_code} %{redirect_url}' --resolve "$name:$plain:127.0.0.1" "http://$name:$plain/x?y")
[ "$moved" = "301 https://$name/x?y" ] || fail "plain http: $moved"
get -D "$work/head" -o "$work/page" "$url/"
grep -q '^HTTP/2 200' "$work/head" && grep -qi '^content-security-policy: default-src' "$work/head" && grep -q '<title>Kinora' "$work/page" ||
    fail "the page: $(cat "$work/head")"
status=$(get -o /dev/null -w '%{http_code}' "$url/api/me")
[ "$status" = 401 ] || fail "without a key: $status"
other=$(get -o /dev/null -w '%{http_code}' -H "Host: evil.example" "$url/api/me")
[ "$other" = 421 ] || fail "another name: $other"
ok "TLS, HTTP/2, the page with its policy, no answer without a key or to another name"

# The page's session: a cookie that is sent with TLS alone, and nothing that another site may use.
signed=$(get -D - -o /dev/null -H "Origin: $url" -H "Content-Type: application/json" -d "{\"key\": \"$key\"}" "$url/api/session")
cookie=$(tr -d '\r' <<<"$signed" | sed -n 's/^set-cookie: //ip')
[[ "$cookie" == *Secure* && "$cookie" == *HttpOnly* ]] || fail "the session's cookie: $cookie"
status=$(get -o /dev/null -w '%{http_code}' -H "Cookie: ${cookie%%;*}" -H "Origin: https://evil.example" -H "x-kinora: 1" -H "Content-Type: application/json" -d '{"paused": true}' "$url/api/queue")
[ "$status" = 403 ] || fail "another site with the cookie: $status"
status=$(get -o /dev/null -w '%{http_code}' -H "Cookie: ${cookie%%;*}" -H "Origin: $url" -H "x-kinora: 1" -H "Content-Type: application/json" -d '{"paused": false}' "$url/api/queue")
[ "$status" = 200 ] || fail "the page itself with the cookie: $status"
ok "a session of the page, whose cookie is for TLS alone"

# Events come when they happen, not when a buffer is full.
clip='{"prompt": "a red ball bounces", "width": 32, "height": 48, "frames": 9, "sampling": {"steps": 12}}'
as_anna -N --max-time 30 "$url/api/events" 2>/dev/null | while IFS= read -r line; do
    case $line in event:*) echo "$EPOCHREALTIME ${line#event: }" ;; esac
done >"$work/events" &
pids+=($!)
for _ in $(seq 60); do grep -q snapshot "$work/events" && break; sleep 0.05; done
grep -q snapshot "$work/events" || fail "no snapshot came within 3 s"
id=$(post clips "$clip" | field clips 0 id)
made() { as_anna "$url/api/clips/$1" | field status; }
wait_for() {
    for _ in $(seq 400); do
        [ "$(made "$1")" != succeeded ] || return 0
        sleep 0.1
    done
    fail "$1 was not made: $(made "$1")"
}
wait_for "$id"
sleep 0.3
progress=$(grep -c ' progress$' "$work/events") || fail "no progress came: $(cat "$work/events")"
[ "$(cut -d' ' -f1 "$work/events" | sort -u | wc -l)" -gt 3 ] || fail "the events came at once: $(cat "$work/events")"
ok "a stream of events: $progress of progress, each as it happened"

# Parts of a clip, and a link without a key, whose signature is not in nginx's log.
as_anna -o "$work/whole.mp4" "$url/api/clips/$id/video"
part=$(as_anna -D "$work/head" -r 100-199 "$url/api/clips/$id/video" | sha256sum)
grep -q '^HTTP/2 206' "$work/head" || fail "a part: $(head -n 1 "$work/head")"
[ "$part" = "$(tail -c +101 "$work/whole.mp4" | head -c 100 | sha256sum)" ] || fail "another part than was asked for"
tag=$(tr -d '\r' <"$work/head" | sed -n 's/^etag: //ip')
status=$(as_anna -o /dev/null -w '%{http_code}' -H "If-None-Match: $tag" "$url/api/clips/$id/video")
[ "$status" = 304 ] || fail "with its own ETag: $status"
link=$(as_anna "$url/api/clips/$id/link" | field url)
[[ "$link" == "$url/"* ]] || fail "the link leads elsewhere: $link"
get "$link" | cmp - "$work/whole.mp4" || fail "the link's clip is another one"
query=${link#*\?}
[ -n "$query" ] && grep -q /api/clips "$work/kinora.log" && ! grep -qF "$query" "$work/kinora.log" || fail "the log has the link's signature"
ok "parts, ETags, and a link that the log does not give away"

# Uploads: one of 100 MB, which is the clip with an empty box at its end; and one that is refused before all of it is sent.
python3 - "$work/whole.mp4" "$work/large.mp4" <<'END'
import sys
size = 100_000_000
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read() + size.to_bytes(4, "big") + b"free" + bytes(size - 8))
END
upload=$(as_anna -F "file=@$work/large.mp4" "$url/api/files" | field media)
[ "$upload" = video ] || fail "the large upload: $upload"
head -c 280000000 /dev/zero >"$work/too-large"
as_anna -F "file=@$work/too-large;filename=a.mp4" "$url/api/files" -o "$work/refused" -w '%{http_code} %{size_upload}\n' >"$work/sent" || true
read -r status sent <"$work/sent"
[ "$status" = 413 ] && grep -q '"error"' "$work/refused" || fail "too large an upload: $status $(head -c 300 "$work/refused")"
rm "$work/too-large" "$work/large.mp4"
ok "an upload of 100 MB; one of 280 MB gets the server's own 413 after $sent bytes"

# A backup while clips are made, and a server that starts from it.
post clips "${clip/\{/\{\"count\": 8, }" >"$work/queued"
ids=$(python3 -c 'import json, sys; print(*(clip["id"] for clip in json.load(sys.stdin)["clips"]))' <"$work/queued")
first=${ids%% *}
wait_for "$first"
"$here/backup.sh" "$work/data" "$work/backup"
[ "$(sqlite3 "$work/backup/kinora.db" 'PRAGMA integrity_check')" = ok ] || fail "the copy of the store is damaged"
count() { sqlite3 "$work/backup/kinora.db" "SELECT count(*) FROM jobs WHERE $1"; }
done_then=$(count "status = 'succeeded'") open_then=$(count "status IN ('queued', 'running')")
[ "$open_then" -gt 0 ] || fail "all clips were made before the backup"
kill "$server"
wait "$server" || true
mv "$work/data" "$work/lost"
cp -R "$work/backup" "$work/data"
begin data --config "$work/kinora.toml" --port "$inner"
for one in $id $ids; do wait_for "$one"; done
as_anna "$url/api/clips/$id/video" | cmp - "$work/whole.mp4" || fail "the clip of before the backup is another one"
for one in $ids; do
    as_anna -f -o "$work/one.mp4" "$url/api/clips/$one/video" || fail "$one has no file"
    python3 -c 'import sys; assert open(sys.argv[1], "rb").read(8)[4:] == b"ftyp"' "$work/one.mp4" || fail "$one is no clip"
done
[ "$(as_anna "$url/api/files" | field files 0 media)" = video ] || fail "the upload is gone"
ok "a backup with $done_then finished and $open_then unfinished clips, restored: all are there, and those were made"
