# SPDX-License-Identifier: GPL-2.0
# The packages of `make deb` in a Debian with systemd, udev and DKMS: installed, used, upgraded and purged. The kernel's packages and
# the compiler are stand-ins: what is built is loft.ko, which DKMS has built with the package's own commands before (scripts/inside/dkms),
# or nothing while /test/broken is there.
# seconds: 600
# part: 2
set -u
cd /test || exit 1
release=$(uname -r) series=$(uname -r | cut -d. -f1,2)
export DEBIAN_FRONTEND=noninteractive
fail() {
    echo "FAIL: $*"
    [ ! -e out ] || tail -n 30 out
    exit 1
}
step() { echo "$(cut -d. -f1 /proc/uptime) s: $*"; }

# run CODE COMMAND...: what it says is in `out`.
run() {
    local wanted=$1 code=0
    shift
    "$@" >out 2>&1 </dev/null || code=$?
    [ $code = "$wanted" ] || fail "exit code $code, not $wanted, of: $*"
}
says() { grep -qF -e "$1" out || fail "'$1' was not said"; }
# until_true SECONDS COMMAND...
until_true() {
    local left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$left" -gt 0 ] || fail "not within its time: $*"
        left=$((left - 1))
        sleep 1
    done
}
install() { dpkg -i "$@"; }
module_of() { readlink "/var/lib/dkms/loft/kernel-$release-aarch64" | cut -d/ -f1; }
files() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /test -o -path /var/lib/dpkg -o -path /var/log \
    -o -name 'mok.*' -o -name 'ldconfig' -o -path /var/cache/debconf -o -name 'modules.*' -o -path /var/lib/systemd \) -prune -o -print | sort; }

step "stand-ins"
# package NAME VERSION [PROVIDES]: makes the package NAME.deb with the files of p/NAME.
package() {
    mkdir -p "p/$1/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: arm64\nMulti-Arch: allowed\n%sMaintainer: test <test@localhost>\nDescription: a stand-in\n' \
        "$1" "$2" "${3:+Provides: $3
}" >"p/$1/DEBIAN/control"
    dpkg-deb -Znone -b "p/$1" "$1.deb" >/dev/null
}
headers=p/linux-headers-$release/usr/src/linux-headers-$release
mkdir -p "$headers/include/config" "p/linux-headers-$release/usr/lib/modules/$release" "p/linux-source-$series/usr/src"
printf 'CONFIG_RUST=y\nCONFIG_ARM64_4K_PAGES=y\nCONFIG_RUSTC_VERSION=108501\n' | tee "$headers/.config" >"$headers/include/config/auto.conf"
touch "$headers/Module.symvers"
ln -s "/usr/src/linux-headers-$release" "p/linux-headers-$release/usr/lib/modules/$release/build"
package "linux-headers-$release" 7.2-1
mkdir -p "s/linux-source-$series"/{include/config,scripts,tools/include,rust/kernel,arch/arm64/{include,tools,kernel,kvm}}
(cd "s/linux-source-$series" && touch Makefile rust/Makefile rust/a.rmeta rust/a.so rust/kernel/generated_a.rs arch/arm64/Makefile arch/arm64/tools/sysreg)
tar -C s -cJf "p/linux-source-$series/usr/src/linux-source-$series.tar.xz" "linux-source-$series"
package "linux-source-$series" 7.2-1
mkdir -p /usr/local/bin
cat >/usr/local/bin/make <<'END'
#!/bin/sh
for a; do
    case $a in
    M=*) [ ! -e /test/broken ] || { echo "error[E0308]: broken" && exit 2; }; cp /test/loft.ko "${a#M=}/loft.ko" ;;
    syncconfig) cp .config include/config/auto.conf ;;
    modules_prepare) echo made >>/test/trees ;;
    kernelrelease) uname -r ;;
    rustavailable | modules) ;;
    -C) cd=1 && continue ;;
    *) [ -z "${cd-}" ] || cd "$a" || exit 1 ;;
    esac
    cd=
done
END
printf '#!/bin/sh\n' >/usr/local/bin/python3
chmod +x /usr/local/bin/*
depmod 2>/dev/null
# What the packages depend on, with folders that are other packages'. The source that is there is of another series.
mkdir -p "p/stand-ins/usr/lib/modules/$release" p/stand-ins/usr/{src,share/doc}
package python3 3.13
package stand-ins 1 "bc, bindgen, bison, dkms (= 3.2.2), dwarves, flex, gcc, libelf-dev, libssl-dev, openssl, rust-src, rustc, xz-utils, linux-source-$(
    [ "$series" = 7.3 ] && echo 7.2 || echo 7.3
)"
install python3.deb stand-ins.deb >/dev/null || fail "the stand-ins cannot be installed"
files >before

step "a kernel without its headers, or its source, is left out, and it is said what to install"
run 0 install loft-dkms_*.deb
says "no module for Linux $release, which needs its headers: apt install linux-headers-$release"
run 0 install "linux-headers-$release.deb"
run 0 install loft-dkms_*.deb
says "no module for Linux $release, which needs its source: apt install linux-source-$series=7.2-1"
[ ! -e /dev/loft ] || fail "there is a /dev/loft"

step "the source comes, and the module is built and loaded by itself"
run 0 install "linux-source-$series.deb"
[ -c /dev/loft ] || fail "there is no /dev/loft"
version=$(dpkg-query -W -f '${Version}' loft-dkms)
[ "$(module_of)" = "$version" ] || fail "DKMS has installed '$(module_of)', not $version"
modinfo -n loft | grep -q "/updates/dkms/loft.ko" || fail "modprobe finds $(modinfo -n loft)"
[ "$(stat -c %a /dev/loft)" = 600 ] || fail "/dev/loft is $(stat -c '%U:%G %a' /dev/loft) without udev's rule"

step "the launcher, for the group kvm"
run 0 install loft_*.deb
[ "$(stat -c '%U:%G %a' /dev/loft)" = "root:kvm 660" ] || fail "/dev/loft is $(stat -c '%U:%G %a' /dev/loft)"
for file in /usr/share/man/man1/loft.1.gz /usr/share/man/man1/loft-run.1.gz /usr/share/bash-completion/completions/loft \
    /usr/share/zsh/vendor-completions/_loft /usr/share/fish/vendor_completions.d/loft.fish; do
    [ -s $file ] || fail "there is no $file"
done
guest=(-k guest/7.2/Image --modules guest/7.2/modules -d "guest/7.2/disk.img,snapshot")
run 7 setpriv --reuid user --regid user --init-groups loft run "${guest[@]}" -- sh -c 'echo in the guest; exit 7'
says 'in the guest'
run 125 setpriv --reuid other --regid other --init-groups loft run "${guest[@]}" -- true
says '/dev/loft'

step "a VM from a file, as a service"
cat >/etc/loft/web-1.toml <<END
kernel = "/test/guest/7.2/Image"
modules = "/test/guest/7.2/modules"
disk = ["/test/guest/7.2/disk.img,snapshot"]
memory = "256M"
END
run 0 systemctl enable --now loft@web-1
until_true 60 loft exec web-1 -- true
run 1 systemctl start loft@no-such
[ "$(systemctl show -P ActiveState loft@no-such)" != active ] || fail "a VM without a file runs"

step "an upgrade with a running VM leaves that alone, and says so"
# next VERSION: makes the packages of that version out of those that are there.
next() {
    local name
    for name in loft loft-dkms; do
        rm -rf next
        dpkg-deb -R "$(find . -maxdepth 1 -name "${name}_*.deb" | head -n 1)" next
        grep -rl --null "$version" next | xargs -0r sed -i "s/$version/$1/g"
        [ "$name" = loft ] || mv "next/usr/src/loft-$version" "next/usr/src/loft-$1"
        dpkg-deb -Znone -b next "$name.next.deb" >/dev/null
    done
}
next "$version+2"
loaded=$(cksum </sys/module/loft/notes/.note.gnu.build-id)
run 0 install loft.next.deb loft-dkms.next.deb
says "VMs run: the module that is loaded stays until they have ended"
[ "$(module_of)" = "$version+2" ] || fail "DKMS has installed '$(module_of)'"
[ "$(dkms status loft | wc -l)" = 1 ] || fail "DKMS has: $(dkms status loft)"
[ "$(cksum </sys/module/loft/notes/.note.gnu.build-id)" = "$loaded" ] || fail "another module is loaded"
run 0 loft exec web-1 -- true
[ "$(systemctl is-active loft@web-1)" = active ] || fail "the VM was stopped"

step "the VM is switched off by its service"
run 0 systemctl stop loft@web-1
[ "$(systemctl show -P Result loft@web-1)" = success ] || fail "the service ended with $(systemctl show -p Result,ExecMainStatus loft@web-1)"
run 0 loft ps
! grep -q web-1 out || fail "it runs still"

step "an upgrade that cannot be built keeps the old module"
touch broken
next "$version+3"
run 1 install loft-dkms.next.deb
says "could not be built for $release"
says "error[E0308]: broken"
[ "$(module_of)" = "$version+2" ] || fail "DKMS has installed '$(module_of)'"
rmmod loft || fail "loft is in use"
run 0 modprobe loft
[ -c /dev/loft ] || fail "the old module does not load"
step "and is made up for"
rm broken
run 0 dpkg --configure -a
[ "$(module_of)" = "$version+3" ] || fail "DKMS has installed '$(module_of)'"
[ "$(dkms status loft | wc -l)" = 1 ] || fail "DKMS has: $(dkms status loft)"
[ ! -e /var/lib/loft-dkms ] || fail "there is an old source"
[ "$(wc -l <trees)" = 1 ] || fail "the kernel's tree was made $(wc -l <trees) times"
[ -c /dev/loft ] || fail "there is no /dev/loft"

step "purged, there is no trace"
rm /etc/loft/web-1.toml
run 0 dpkg -P loft loft-dkms
[ ! -e /sys/module/loft ] || fail "the module is loaded"
run 0 dpkg -P "linux-source-$series" "linux-headers-$release"
files >after
diff before after >out || fail "there is more, or less, than before"
[ ! -e /run/loft ] || fail "there is /run/loft"
step "done"
