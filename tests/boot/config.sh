# SPDX-License-Identifier: GPL-2.0
# Options from a file: they are those of the command line, which has the last word, and what is printed is such a file.
# seconds: 200
# part: 4
. /boot/lib
cat >"$dir/config" <<END
# A guest.
kernel = "/guest/7.2/Image"
modules = "/guest/7.2/modules"
disk = ["$disk,snapshot"]
device = "$DEVICE"
cpus = 2
memory = "300M"
command = ["sh", "-c", "nproc; exit 6"]
END
# run ARGUMENT...
run() {
    code=0
    loft run --config "$dir/config" "$@" >"$dir/out" 2>"$dir/err" </dev/null || code=$?
    said=$(cat "$dir/out") messages=$(cat "$dir/err")
}
run --print-config
expect_code 0
says "$said" '^cpus = 2$'
says "$said" '^memory = "300M"$'
cp "$dir/out" "$dir/config"
run --print-config -c 3
expect_code 0
[ "$(sed 's/^cpus = 3$/cpus = 2/' "$dir/out")" = "$(cat "$dir/config")" ] || fail "what is printed is not what was read"
run
expect_code 6
[ "$said" = 2 ] || fail "it has $said CPUs"
echo 'memroy = "1G"' >>"$dir/config"
run
expect_code 125
says "$messages" "config: line [0-9]+: memroy: there is no such option"
