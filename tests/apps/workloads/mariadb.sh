# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="MariaDB: 20 transactions of sysbench oltp_read_write, 4 at a time, from the server"
load() {
    outside sysbench oltp_read_write --mysql-host="$inner" --mysql-user=sbtest --tables=2 --table-size=1000 \
        --threads=4 --time=0 --rand-seed=1 --rand-type=uniform --db-ps-mode=disable --events="$1" run
}
prepare() {
    inside "mariadbd --user=root --datadir=/srv/mysql --socket=/tmp/mysql --bind-address=0.0.0.0 --skip-name-resolve \
        --innodb-buffer-pool-size=32M --innodb-log-file-size=8M >/tmp/mysql.log 2>&1 & \
        for i in \$(seq 100); do mariadb -u sbtest -S /tmp/mysql -e 'SELECT 1' >/dev/null 2>&1 && exit; sleep 0.2; done; cat /tmp/mysql.log; exit 1" &&
        load 4
}
run() { load 20; }
finish() { inside "pkill mariadbd; while pgrep mariadbd >/dev/null; do sleep 0.1; done"; }
