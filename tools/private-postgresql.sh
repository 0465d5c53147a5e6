#!/bin/sh
# A PostgreSQL of one's own for tests: `start DIR` makes it in DIR and prints its URL, to which a database's name is to be
# added; `stop DIR` ends and removes it. It listens on a socket in DIR only. fsync is off: tests kill processes, not machines.
set -eu
verb=$1
dir=$2
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)

# The programs refuse to run as root.
as_user() {
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec runuser -u postgres -- "$@")
	else
		"$@"
	fi
}

case $verb in
start)
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	[ "$(id -u)" != 0 ] || chown postgres "$dir"
	chmod 755 "$dir"
	as_user "$bin/initdb" -D "$dir/data" -U bullpen -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/initdb.log"
	cat >>"$dir/data/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$dir'
		max_connections = 400
		fsync = off
		shared_buffers = 128MB
		max_prepared_transactions = 0
		log_min_messages = warning
	END
	as_user "$bin/pg_ctl" -D "$dir/data" -w -s -l "$dir/log" start >&2
	echo "postgresql://bullpen@/NAME?host=$(echo "$dir" | sed 's,/,%2F,g')"
	;;
stop)
	as_user "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >&2 || true
	rm -rf "$dir"
	;;
*)
	echo "usage: private-postgresql.sh start|stop DIR" >&2
	exit 2
	;;
esac
