# SPDX-License-Identifier: GPL-2.0
# A guest with little memory boots, or is refused before it starts, and then boots with what the refusal names.
# seconds: 600
# part: 4
. /boot/lib
# boots SIZE
boots() {
    guest -m "$1" -- echo up
    expect_code 0
    [ "$said" = up ] || fail "a guest with $GUEST and $1 printed '$said'"
}
for GUEST in 7.2 6.12; do
    guest -m 64M -- echo up
    if [ "$code" != 0 ]; then
        expect_code 125
        says "$messages" 'too little for this kernel.* at least -m [0-9]+M'
        least=$(echo "$messages" | sed -n 's/.*at least -m \([0-9]*M\).*/\1/p')
        echo "$GUEST takes $least"
        boots "$least"
    fi
    boots 128M
done
GUEST=7.2
for size in 160M 256M; do boots $size; done
