# SPDX-License-Identifier: GPL-2.0
# Debian's gdb on a guest of loft's own launcher: from its first instruction on, and in its kernel, at which it is not to notice anything.
# seconds: 600
# part: 6
. /vmm/lib
device=/dev/loft
[ -e $device ] || device=/dev/kvm
export LOFT_RUNTIME_DIR="$dir/run"

# start NAME ARGUMENT...: a guest in the background.
start() {
    name=$1
    shift
    cp disk.img "$name.img"
    timeout 60 loft run -k Image --modules /guest/7.2/modules -d "$name.img" -m 256M -p nokaslr --device $device --name "$name" --detach "$@" >out 2>err </dev/null
}

# gdb TIME LIMIT, commands on standard input: what it prints is in gdb.log.
gdb() {
    { echo 'set pagination off'; echo 'set confirm off'; echo 'set architecture aarch64'; cat; } >gdb.commands
    timeout "$1" chroot "$root" /usr/bin/gdb -nx -q -batch -x "$dir/gdb.commands" >gdb.log 2>&1 </dev/null
}

# prints PATTERN: gdb did.
prints() {
    grep -qE "$1" gdb.log && return
    cat gdb.log
    fail "gdb does not print '$1'"
}

# What cannot be is refused before a guest runs.
echo mine >taken
start bad --gdb "$dir/taken" && fail "a file that exists is taken for the socket"
grep -q "$dir/taken exists already" err || fail "it says: $(cat err)"
[ "$(cat taken)" = mine ] || fail "the file is changed"
start bad --gdb 70000 && fail "port 70000 is one"
grep -q "1 to 65535" err || fail "it says: $(cat err)"

# From the first instruction on, without an MMU; both vCPUs are there, the second one is still off.
start one -c 2 --gdb 4242,wait || fail "$(cat err)"
start two --gdb 4242 && fail "two guests share a port"
grep -q 'port 4242.*in use' err || fail "it says: $(cat err)"
sleep 1
gdb 60 <<'END'
target remote 127.0.0.1:4242
info threads
printf "first %#lx %#x\n", $pc, *(int *)$pc
stepi
printf "second %#lx\n", $pc
stepi
set $entry = $pc
printf "entry %#lx\n", $entry
hbreak *($entry + 8)
continue
printf "hbreak %d\n", $pc - $entry
delete
detach
END
prints 'Thread 1\.1 .*vCPU 0'
prints 'Thread 1\.2 .*vCPU 1'
# The kernel's header begins with an instruction that is "MZ" as well.
prints 'first 0x80000000 0xfa405a4d'
prints 'second 0x80000004'
prints 'entry 0x8[0-9a-f]{7}'
prints 'hbreak 8'
prints 'detached'

# Nobody has been there: it boots, with both vCPUs.
i=0
until [ "$(timeout 60 loft exec one -- nproc 2>/dev/null </dev/null)" = 2 ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || fail "the guest does not boot"
    sleep 1
done
timeout 60 loft exec one -- sh -c 'echo 1 >/proc/sys/kernel/panic; grep -E " (__arm64_sys_sethostname|panic_timeout|linux_banner)$" /proc/kallsyms' >symbols </dev/null || fail "no symbols"
# address NAME
address() { sed -n "s/^\([0-9a-f]*\) . $1$/0x\1/p" symbols; }
function=$(address __arm64_sys_sethostname) variable=$(address panic_timeout) banner=$(address linux_banner)
if [ -z "$function" ] || [ -z "$variable" ] || [ -z "$banner" ]; then fail "not all symbols are known: $(cat symbols)"; fi

# A program that executes a BRK gets the signal for it, whatever breakpoints the debugger has. A minimal ELF file.
program='\177ELF\002\001\001\0\0\0\0\0\0\0\0\0\002\0\267\0\001\0\0\0x\0\100\0\0\0\0\0\100\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\100\08\0\001\0\0\0\0\0\0\0\001\0\0\0\005\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0\100\0\0\0\0\0\174\0\0\0\0\0\0\0\174\0\0\0\0\0\0\0\0\020\0\0\0\0\0\0\0\0\040\324'
loft exec one -- sh -c "printf '$program' >/tmp/brk && chmod +x /tmp/brk && while :; do hostname guest; /tmp/brk; echo \$? >>/tmp/codes; echo 5 >/proc/sys/kernel/panic; echo 6 >/proc/sys/kernel/panic; done" >/dev/null 2>&1 </dev/null &
load=$!
# At a breakpoint the guest's time goes on, and a tick waits for it; steps do not end there.
gdb 200 <<END
target remote 127.0.0.1:4242
printf "text %s\n", (char *)$banner
break *$function
continue
printf "break %d\n", \$pc - $function
stepi
stepi
stepi
stepi
stepi
stepi
printf "steps %d\n", ((long)\$pc - $function) / 4
printf "vectors %d\n", \$VBAR_EL1 != 0
continue
printf "again %d\n", \$pc - $function
continue
printf "again %d\n", \$pc - $function
delete
watch *(int *)$variable
continue
continue
info watchpoints
delete
set *(int *)$variable = 77
printf "written %d\n", *(int *)$variable
set \$x0 = 0x1234
printf "x0 %#lx\n", \$x0
detach
END
prints '^text Linux version 7\.2'
prints '^break 0'
prints '^steps [1-6]'
prints '^vectors 1'
[ "$(grep -c '^again 0' gdb.log)" = 2 ] || { cat gdb.log; fail "the breakpoint is not reached again"; }
prints 'Hardware watchpoint 2'
prints 'Old value = 5'
prints 'New value = 6'
prints 'breakpoint already hit 2 times'
prints '^written 77'
prints '^x0 0x1234'

# Ctrl-C, and the guest is as it was when nobody looks any more.
gdb 100 <<END &
target remote 127.0.0.1:4242
set logging file $dir/connected
set logging enabled on
continue
detach
END
i=0
until [ -e connected ]; do
    i=$((i + 1))
    [ $i -lt 200 ] || { cat gdb.log; fail "gdb does not connect"; }
    sleep 0.2
done
sleep 3
kill -INT "$(pidof gdb)"
wait $!
prints 'SIGINT'
prints 'detached'
timeout 60 loft exec one -- sh -c 'uniq /tmp/codes' </dev/null >codes || fail "the guest does not go on"
[ "$(cat codes)" = 133 ] || fail "a BRK ends with $(cat codes)"
kill $load
loft stop -f -t 30 one || fail "it does not stop"

# A socket, which is its owner's and is gone in the end; kill ends the guest.
loft run -k Image --modules /guest/7.2/modules -d one.img -m 256M --device $device --gdb gdb.socket -- sleep 100 >out 2>err </dev/null &
guest=$!
i=0
until [ -S gdb.socket ]; do
    i=$((i + 1))
    [ $i -lt 50 ] || fail "there is no socket"
    sleep 0.2
done
[ "$(stat -c %a gdb.socket)" = 600 ] || fail "others can use the socket"
gdb 60 <<END
target remote $dir/gdb.socket
kill
END
code=0
wait $guest || code=$?
[ $code = 102 ] || fail "the guest that was killed ends with $code: $(cat err)"
[ ! -e gdb.socket ] || fail "the socket is left"
