# SPDX-License-Identifier: GPL-2.0
# The host's directories in a guest of loft's own launcher, by Debian's virtiofsd, as an ordinary user: the host's root as the
# guest's, and shares. In a namespace of its own the disk's root file system is the host's.
# seconds: 600
# part: 6
. /vmm/lib
device=/dev/loft
[ -e $device ] || device=/dev/kvm
chmod 666 $device
cp /bin/loft "$dir/"
cp /bin/busybox "$dir/busybox"
ln -s busybox "$dir/sh"
mkdir boot modules www bin
mkdir -m 777 spool tree
mkdir -p home work/deep one/deep
cp Image "boot/vmlinuz-$(uname -r)"
cp -r /guest/7.2/modules/. modules/
cp -r /guest/6.12 old
echo "at home" >home/note
echo kept | tee work/file >one/file
chmod 640 one/file
chmod 666 disk.img
chown -R 1000:1000 home work one
# shellcheck disable=SC2016 # for make
printf 'test:\n\t@echo made by $(USER) in $(CURDIR)\n\t@echo result >result\n' >tree/Makefile
echo page >www/page
network

# as USER COMMAND...: in the disk's root file system.
as() {
    # shellcheck disable=SC2016 # for the inner shells
    unshare -m sh -c 'cd /mnt/vmm && mount -o bind /tmp/qemu/boot boot && mount -o bind /tmp/qemu/modules usr/lib/modules &&
        mount -o move . / && exec chroot . /tmp/qemu/busybox su "$1" -s /tmp/qemu/sh -c "$2"' sh "$1" "$2"
}

# guest DIRECTORY WORDS: as $who, who starts loft there. The words are the shell's.
who=user first=
guest() {
    : >out
    : >err
    as $who "cd $1 && export HOME=$dir/home USER=$who PATH=$first\$PATH LOFT_RUNTIME_DIR=$dir/spool/run$who &&
        exec timeout 200 $dir/loft run --device $device $2" >>out 2>>err </dev/null
}

# What cannot be is said before there is a guest.
ends 125 "$dir" "--share $dir/none -- true"
contains 'there is no such directory' err
ends 125 "$dir" "--rw $dir/one/file -- true"
contains 'this is a file' err
ends 125 "$dir" "--share $dir/one:t --share $dir/tree:t -- true"
contains "the tag 't'" err
ends 2 "$dir" "--share $dir/one:0123456789012345678901234567890123456 -- true"
contains 'at most 36' err
ends 125 "$dir" ""
contains 'there is nothing to boot from' err
mv boot/* .
ends 125 "$dir" "-- true"
contains "this machine's own kernel, /boot/vmlinuz-$(uname -r), cannot be read" err
mv vmlinuz-* boot/

# Landlock keeps virtiofsd to its directory.
printf '#!/bin/sh\nexec >&2\ncat %s/one/file %s/home/note\necho x >%s/one/x\n' "$dir" "$dir" "$dir" >bin/virtiofsd
chmod 755 bin/virtiofsd
first=$dir/bin:
ends 125 "$dir" "--share $dir/one,ro -k $dir/Image -d disk.img -- true"
contains 'virtiofsd has ended: kept' err
contains 'home/note: Permission denied' err
contains 'one/x: Permission denied' err
first=

# No disk, no kernel: who, where, what can be read and what can be written.
ends 0 "$dir/work" "-n user --rw $dir/tree -- sh -c '
    echo host \$(cat /proc/sys/kernel/hostname), user \$USER \$(id -u):\$(id -g):\$(id -G), path \$PATH
    cat ~/note; pwd; cat file; $dir/busybox wget -q -O- http://10.0.2.2:8080/page
    echo changed >file && cat file; echo new >other; rm ~/note && ls ~ | wc -l
    make -C $dir/tree test; ls -ln $dir/tree/result; rm $dir/loft; echo error >/dev/stderr'"
contains '^host vmm, user user 1000:1000:1000, path /.*bin'
contains '^at home$'
contains "^$dir/work$"
contains '^kept$'
contains '^page$'
contains '^changed$'
contains '^0$'
contains "^made by user in $dir/tree$"
contains ' 1000 *1000 .*result'
contains '^error$' err
contains 'loft.: Permission denied' err
[ "$(cat work/file) $(cat home/note)" = "kept at home" ] || fail "a write reached the host"
[ ! -e work/other ] || fail "a new file reached the host"
[ "$(stat -c %u:%g tree/result) $(cat tree/result)" = "1000:1000 result" ] || fail "what make wrote is not here: $(ls -ln tree)"

# What the user may not read on the host, the guest's root may not either, and the command is not root.
echo secret >one/secret
chown 0:0 one/secret
chmod 600 one/secret
ends 3 "$dir/one" "-n none -- sh -c 'cat secret; sync; exit 3'"
contains 'secret.*Permission denied' err

# Shares in a guest with a root of its own, in which nothing stays. One is read-only, whatever the guest's mount says.
shares="--modules $dir/modules -n none -k $dir/Image -d $dir/disk.img"
ends 0 "$dir/one/deep" "$shares --share $dir/one --share $dir/tree:t,ro -- sh -c '
    pwd; cat ../file; id -u; stat -c %u:%a ../file; cat ../secret; echo deep >new && mv new moved
    cat /mnt/t/result; mount -o remount,rw /mnt/t; echo x >/mnt/t/x; rm -f /mnt/t/result; ls /mnt/t'"
contains "^$dir/one/deep$"
contains '^kept$'
contains '^1000:640$'
contains '^result$'
contains 'secret.*Permission denied' err
contains 'x: Read-only file system' err
[ "$(stat -c %u one/deep/moved) $(cat one/deep/moved)" = "1000 deep" ] || fail "the guest's file is not here"
{ [ ! -e tree/x ] && [ -e tree/result ]; } || fail "a read-only directory was written to"
ends 1 "$dir" "$shares -- sh -c 'ls -d /mnt/t /mnt $dir'"
contains '^/mnt$'
contains '/mnt/t: No such file' err
contains "$dir: No such file" err

# Debian 13's own kernel; and root's guest gives files to whom it wants.
who=root
mkdir -m 777 one/shared
ends 0 "$dir" "-k $dir/old/Image --modules $dir/old/modules -n none --rw $dir/one/shared -- sh -c '
    uname -r; cd one/shared && echo x >file && chown 33:34 file && stat -c %u:%g file && cat ../secret'"
contains '^6\.12\.'
contains '^33:34$'
contains '^secret$'
[ "$(stat -c %u:%g one/shared/file)" = 33:34 ] || fail "the owner is another one here: $(ls -ln one/shared)"
who=user

# running: a guest in the background, which runs.
running() {
    guest "$dir" "-n none -- sh -c 'echo up; sleep 100'" &
    guest=$!
    comes_up up 120
}

# The end of virtiofsd is the guest's. Who gets at the guest's memory cannot cut it off.
running
memory=$(for file in /proc/"$(pidof loft)"/fd/*; do case $(readlink "$file") in */memfd:guest*) echo "$file" ;; esac; done)
[ -n "$memory" ] || fail "the guest's memory is no file"
truncate -s 1M "$memory" 2>/dev/null && fail "the guest's memory can be cut off"
kill "$(pidof virtiofsd)"
code=0
wait $guest || code=$?
[ $code = 125 ] || { cat out err; fail "exit code $code"; }
contains 'virtiofsd has ended, and so the guest has lost /$' err

# It ends with a launcher that is killed.
running
kill -9 "$(pidof loft)"
wait $guest
sleep 2
! pidof virtiofsd >/dev/null || fail "virtiofsd still runs"
