# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
work="fio: 1,000 requests of 4 KiB, reads and writes at random, 4 at a time, past the page cache"
job() {
    inside fio --name=job --filename=/srv/fio --size=16m --rw=randrw --bs=4k --direct=1 --ioengine=libaio --iodepth=4 \
        --randrepeat=1 --minimal "$@"
}
prepare() { job --number_ios=100; }
run() { job --number_ios=1000; }
