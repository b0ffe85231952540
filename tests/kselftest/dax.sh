# SPDX-License-Identifier: GPL-2.0
# dax.sh DIRECTORY: mounts a file system there whose files are the memory of an NVDIMM itself (fsdax), in the emulated server.
set -e
region=/sys/bus/nd
echo namespace0.0 >$region/drivers/nd_pmem/unbind
# What ndctl create-namespace --mode=fsdax --map=mem does.
cd $region/devices/pfn0.0
cat /proc/sys/kernel/random/uuid >uuid
echo 2097152 >align
echo ram >mode
echo namespace0.0 >namespace
echo pfn0.0 >$region/drivers/nd_pmem/bind
mke2fs -b 4096 /dev/pmem0 >/dev/null
mount -t ext4 -o dax /dev/pmem0 "$1"
