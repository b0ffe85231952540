# SPDX-License-Identifier: GPL-2.0
# The kernel of Debian 13 itself.
# seconds: 200
# part: 2
. /boot/lib
GUEST=6.12 guest -c 2 -- sh -c 'uname -r; nproc; mount | grep " / "'
expect_code 0
says "$said" '^6\.12\..*-arm64$'
says "$said" '^2$'
says "$said" '^/dev/vda on / type ext4'

GUEST=6.12 guest --transport pci -c 2 -- sh -c 'uname -r; grep -c "ITS-.*virtio0-req" /proc/interrupts'
expect_code 0
says "$said" '^6\.12\.'
says "$said" '^2$'
