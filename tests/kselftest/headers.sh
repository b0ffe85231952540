#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# headers.sh KSRC DEST: exports the arm64 UAPI headers that the tests include, without writing into KSRC.
# The kernel's own scripts/headers_install.sh strips what is for the kernel only; it wants unifdef built beside it.
set -eu
ksrc=$1 dest=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/scripts"
cc -O1 -w -o "$work/scripts/unifdef" "$ksrc/scripts/unifdef.c"
cp "$ksrc/scripts/headers_install.sh" "$work/scripts/"
cd "$work"
export LOCALVERSION= SRCARCH=arm64
put() {
    mkdir -p "$dest/$(dirname "$2")"
    sh scripts/headers_install.sh "$ksrc/$1" "$dest/$2"
}
for h in kvm const psci; do
    put "include/uapi/linux/$h.h" "linux/$h.h"
done
for h in kvm sve_context; do
    put "arch/arm64/include/uapi/asm/$h.h" "asm/$h.h"
done
