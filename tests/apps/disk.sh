# SPDX-License-Identifier: GPL-2.0
# Runs once on the emulated server, where the workloads' disk is made: MariaDB makes its data directory, and sysbench its tables.
# shellcheck shell=sh
set -e
mount -t ext4 /dev/vda /mnt
mount -t devtmpfs dev /mnt/dev
mount -t proc proc /mnt/proc
mount -t tmpfs tmp /mnt/tmp
cat >/mnt/tmp/make <<'END'
set -e
mariadb-install-db --user=root --datadir=/srv/mysql --skip-test-db --auth-root-authentication-method=normal
mariadbd --user=root --datadir=/srv/mysql --socket=/tmp/mysql --skip-networking --innodb-log-file-size=8M &
i=0
until mariadb -u root -S /tmp/mysql -e "CREATE DATABASE sbtest; CREATE USER sbtest; GRANT ALL ON *.* TO sbtest"; do
    i=$((i + 1))
    [ $i -lt 120 ]
    sleep 1
done
sysbench oltp_read_write --mysql-socket=/tmp/mysql --tables=2 --table-size=1000 prepare
mariadb -u root -S /tmp/mysql -e SHUTDOWN
wait
END
chroot /mnt /bin/bash /tmp/make
umount /mnt/tmp /mnt/proc /mnt/dev /mnt
