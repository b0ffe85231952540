# SPDX-License-Identifier: GPL-2.0
# QEMU with UEFI, whose flash is memory that the guest can read and commands that it writes; a stock Debian kernel that knows its
# machine from ACPI.
# seconds: 300
# part: 3
# What is in single quotes is for the guest.
# shellcheck disable=SC2016
. /vmm/lib
parameters=acpi=force
cp "$root/usr/share/AAVMF/AAVMF_VARS.fd" "$dir/"
start 1 -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd \
    -drive if=pflash,unit=1,"format=raw,file=$dir/AAVMF_VARS.fd"
says log1 'UEFI firmware' 60
says log1 'built-in shell' 120
echo 'ls -1 /sys/firmware/acpi/tables/GTDT /sys/firmware/efi/systab; echo "answer: $((6 * 7))"; poweroff -f' >&7
says log1 'answer: 42' 30
grep -q '^/sys/firmware/acpi/tables/GTDT' log1 || fail "the guest has no ACPI"
grep -q '^/sys/firmware/efi/systab' log1 || fail "the guest has no UEFI"
wait "$qemu" || fail "QEMU ended with $?: $(cat qemu1)"
