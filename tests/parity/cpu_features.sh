# SPDX-License-Identifier: GPL-2.0
# Prints what a guest's kernel says of its CPUs' features.
. /boot/lib
guest -c 2 -- dmesg
expect_code 0
echo "$said" | grep 'CPU features: detected: '
