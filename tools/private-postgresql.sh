#!/bin/sh
# A PostgreSQL of one's own for tests: `start DIR` makes it in DIR and prints its URL, in which NAME stands for a database's
# name; `stop DIR` ends and removes it. `kill DIR` ends it at once, `again DIR` starts it again, `standby DIR OF` makes a
# second one in DIR that follows the one in OF, which from then on commits nothing that is not on both, and `promote DIR`
# makes it the first. They listen on a socket in DIR only. Without FSYNC=on nothing is forced to the disk: tests kill processes, not
# machines.
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
		fsync = ${FSYNC:-off}
		shared_buffers = 128MB
		max_prepared_transactions = 0
		log_min_messages = warning
	END
	as_user "$bin/pg_ctl" -D "$dir/data" -w -s -l "$dir/log" start >&2
	echo "postgresql://bullpen@/NAME?host=$(echo "$dir" | sed 's,/,%2F,g')"
	;;
kill)
	as_user "$bin/pg_ctl" -D "$dir/data" -m immediate -w -s stop >&2
	;;
again)
	as_user "$bin/pg_ctl" -D "$dir/data" -w -s -l "$dir/log" start >&2
	;;
standby)
	of=$3
	mkdir -p "$dir"
	[ "$(id -u)" != 0 ] || chown postgres "$dir"
	chmod 755 "$dir"
	as_user "$bin/pg_basebackup" -h "$of" -U bullpen -D "$dir/data" -R -c fast
	sed -i "s,^unix_socket_directories = .*,unix_socket_directories = '$dir'," "$dir/data/postgresql.conf"
	as_user "$bin/pg_ctl" -D "$dir/data" -w -s -l "$dir/log" start >&2
	as_user "$bin/psql" -q -X -h "$of" -U bullpen -d postgres -c "ALTER SYSTEM SET synchronous_standby_names = '*'" -c 'SELECT pg_reload_conf()' >&2
	;;
promote)
	as_user "$bin/psql" -q -X -h "$dir" -U bullpen -d postgres -c "ALTER SYSTEM SET synchronous_standby_names = ''" >&2 || true
	as_user "$bin/pg_ctl" -D "$dir/data" -w -s promote >&2
	;;
stop)
	as_user "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >&2 || true
	rm -rf "$dir"
	;;
*)
	echo "usage: private-postgresql.sh start|stop|kill|again|promote DIR, or standby DIR OF" >&2
	exit 2
	;;
esac
