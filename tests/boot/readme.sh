# SPDX-License-Identifier: GPL-2.0
# The README's examples of `loft run` do what it says, word for word.
# seconds: 400
# part: 3
. /boot/lib
export LOFT_RUNTIME_DIR="$dir/run"
cd "$dir" || exit 1
cp /guest/7.2/Image /guest/7.2/initrd .
mv initrd initrd.img
ln -s Image vmlinuz
ln -s /guest/7.2/modules modules
[ -e /dev/loft ] || ln -s "$DEVICE" /dev/loft
[ -e /dev/kvm ] || ln -s "$DEVICE" /dev/kvm
mkdir -p ~/src /boot
cp Image "/boot/vmlinuz-$(uname -r)"
# What `make test` finds.
# shellcheck disable=SC2016 # for the guest's shell
guest -- sh -c 'printf "#!/bin/sh\necho \$1 made of \$(nproc)\n" >/bin/make && chmod +x /bin/make'
expect_code 0

# The lines of the section's first example, without its comments.
awk '/^## / { here = ($0 == "## loft run") } here && /^    / { begun = 1; if (!/^    #/) print substr($0, 5); next } here && begun { exit }' /README.md >examples
# Who has a shell asks for the end until it comes.
off() {
    while sleep 2; do echo 'poweroff -f'; done | timeout 120 sh -c "$1" >out 2>err
}
ran=0
while read -r line <&3; do
    code=0 missing=
    case $line in
    *' -n user'*) missing=passt ;;
    *' --rw '* | *' --share '*) missing=virtiofsd ;;
    esac
    if [ -n "$missing" ]; then
        # It is not there, which is said. tests/vmm has it.
        timeout 120 sh -c "$line" >out 2>err </dev/null || code=$?
        { [ $code = 125 ] && grep -q "$missing is not installed.*apt install $missing" err; } || { cat out err; fail "exit code $code of '$line'"; }
        ran=$((ran + 1))
        continue
    fi
    case $line in
    *' --detach '* | *' -- '* | 'loft ps' | 'loft stat '* | 'loft stop '*) timeout 120 sh -c "$line" >out 2>err </dev/null || code=$? ;;
    'loft console '*)
        # It ends when nobody reads any more what it prints.
        while sleep 2; do echo 'echo con"sole"'; done | timeout 120 sh -c "$line" 2>err | grep -m 1 '^console' >out || code=1
        ;;
    'loft run '*) off "$line" || code=$? ;;
    *) fail "'$line' is none that this test knows" ;;
    esac
    [ $code = 0 ] || { cat out err; fail "exit code $code of '$line'"; }
    case $line in
    *'-- uname -a') grep -q '^Linux .* aarch64' out || fail "'$line' says '$(cat out)'" ;;
    *'-- make test') grep -qx 'test made of 4' out || fail "'$line' says '$(cat out)'" ;;
    'loft ps') grep -q '^web .* running' out || fail "'$line' says '$(cat out)'" ;;
    'loft stat '*) grep -q '^exits  *[1-9]' out || fail "'$line' says '$(cat out)'" ;;
    *'-- uptime') grep -q 'load average' out || fail "'$line' says '$(cat out)'" ;;
    esac
    ran=$((ran + 1))
done 3<examples
[ $ran -ge 12 ] || fail "only $ran lines were found"
