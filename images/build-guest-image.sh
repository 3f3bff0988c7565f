#!/bin/bash
# Builds the tiny guest that the tests and the demo boot: a self-booting x86_64 disk of 20 MB, made of Debian packages.
#
#   images/build-guest-image.sh [-o OUT.qcow2] [-c DEBS] [-w WORK] [-r]
#     -o  the image to write (./tiny-guest.qcow2); OUT.manifest beside it lists the packages
#     -c  a directory of .deb files to use and to fill: once filled, builds need no network and are byte-identical
#     -w  a scratch directory that is kept (else one under $TMPDIR, removed at the end)
#     -r  also write OUT.raw, OUT.vmlinuz and OUT.initrd
#   Environment: GUEST_USER GUEST_PASSWORD DISK_MIB BOOT_MIB WITH_QGA KERNEL_ARGS SOURCE_DATE_EPOCH
#
# Works on Debian 12 with nothing but the main archive; needs no loop device, no chroot and no KVM. Root is needed only
# to install missing tools. What runs inside the guest lies in images/guest/.
set -euo pipefail
export LC_ALL=C TZ=UTC MTOOLS_SKIP_CHECK=1
umask 022

: "${GUEST_USER:=cirros}" "${GUEST_PASSWORD:=gocubsgo}" "${DISK_MIB:=112}" "${BOOT_MIB:=32}" "${WITH_QGA:=1}"
: "${SOURCE_DATE_EPOCH:=1735689600}"
# no_timer_check: a starved TCG host makes the kernel distrust its timer. mitigations, cryptomgr: seconds under TCG.
: "${KERNEL_ARGS:=console=tty0 console=ttyS0,115200n8 loglevel=4 mitigations=off random.trust_cpu=on cryptomgr.notests no_timer_check net.ifnames=0 panic=10}"
export SOURCE_DATE_EPOCH

HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$PWD/tiny-guest.qcow2 DEBS='' WORK='' KEEP=0 RAW=0
while getopts o:c:w:r flag; do
  case $flag in
    o) OUT=$(realpath -m "$OPTARG") ;;
    c) DEBS=$(realpath -m "$OPTARG") ;;
    w) WORK=$OPTARG KEEP=1 ;;
    r) RAW=1 ;;
    *) exit 2 ;;
  esac
done
[ -n "$WORK" ] || WORK=$(mktemp -d "${TMPDIR:-/tmp}/guest-image.XXXXXX")
mkdir -p "$WORK" && WORK=$(realpath "$WORK")
DEBS=${DEBS:-$WORK/debs}
[ "$KEEP" = 1 ] || trap 'rm -rf "$WORK"' EXIT
TREE=$WORK/tree ROOT=$WORK/root INITRAMFS=$WORK/initramfs
FS=$WORK/root.ext4 FAT=$WORK/boot.fat DISK=$WORK/disk.raw
LIBS=lib/x86_64-linux-gnu
BOOT_MODULES="virtio_pci virtio_blk virtio_scsi sd_mod ata_piix"
MODULES="virtio_net sr_mod isofs vfat nls_cp437 nls_iso8859_1 nls_ascii evdev button virtio_console virtio_rng
  virtio_balloon 8021q qemu_fw_cfg vmw_vsock_virtio_transport ip6_tables wireguard"

say() { echo "[$SECONDS s] $*"; }
die() { echo "build-guest-image: $*" >&2; exit 1; }
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"; }
stamp() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

install_tools() {
  local need=() pair
  for pair in qemu-img:qemu-utils syslinux:syslinux mcopy:mtools mkfs.fat:dosfstools cpio:cpio mke2fs:e2fsprogs; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
  done
  [ -e /usr/lib/syslinux/mbr/mbr.bin ] || need+=(syslinux-common)
  [ ${#need[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "please install ${need[*]} (as root: apt-get install ${need[*]})"
  say "installing ${need[*]}"
  # A source that cannot be reached matters only if the packages cannot be found without it.
  apt update >/dev/null || true
  apt install -y --no-install-recommends "${need[@]}" >/dev/null || die "apt-get could not install ${need[*]}"
}

# The cloud kernel's package carries its version in its name; the meta package knows it.
kernel_package() {
  apt-cache depends --no-recommends --no-suggests linux-image-cloud-amd64 2>/dev/null |
    awk '!found && /Depends: linux-image-[0-9]/ { print $2; found = 1 }'
}

fetch_packages() {
  local wanted=(busybox-static dropbear-bin e2fsprogs libc6 libcrypt1 libtomcrypt1 libtommath1 zlib1g libgmp10
    libcom-err2 libext2fs2 libblkid1 libuuid1)
  [ "$WITH_QGA" != 1 ] || wanted+=(qemu-guest-agent libglib2.0-0 libpcre2-8-0 libudev1 liburing2 libnuma1)
  local missing=() package kernel
  mkdir -p "$DEBS" && chmod 755 "$DEBS"
  for package in "${wanted[@]}"; do
    compgen -G "$DEBS/${package}_*.deb" >/dev/null || missing+=("$package")
  done
  if ! compgen -G "$DEBS/linux-image-*-cloud-amd64_*.deb" >/dev/null; then
    kernel=$(kernel_package)
    [ -n "$kernel" ] || { apt update >/dev/null || true; kernel=$(kernel_package); }
    [ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64: is Debian's main archive among the sources?"
    missing+=("$kernel")
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  say "fetching ${#missing[@]} packages"
  download "${missing[@]}" || { apt update >/dev/null || true; download "${missing[@]}"; } ||
    die "apt-get could not download ${missing[*]}"
}
download() { (cd "$DEBS" && apt -o APT::Sandbox::User=root download "$@" >/dev/null); }

unpack() {
  local deb
  rm -rf "$TREE" "$ROOT" "$INITRAMFS"
  mkdir -p "$TREE" "$ROOT" "$INITRAMFS"
  for deb in "$DEBS"/*.deb; do dpkg-deb -x "$deb" "$TREE"; done
  (cd "$DEBS" && ls -- *.deb) | sort > "$WORK/manifest"
  KERNEL=$(ls "$TREE/lib/modules") BUSYBOX=$TREE/bin/busybox
  [ "$(wc -w <<< "$KERNEL")" = 1 ] || die "$DEBS holds more than one kernel: $KERNEL"
  "$BUSYBOX" depmod -b "$TREE" "$KERNEL" >/dev/null 2>&1 || true
  say "kernel $KERNEL"
}

# Prints the files of the named modules, each after what it depends on.
module_files() {
  "$BUSYBOX" awk -v wanted="$*" -F: '
    function name(file) { sub(/.*\//, "", file); sub(/\.ko.*/, "", file); gsub(/-/, "_", file); return file }
    function visit(m,  n, i, part) {
      if (m in seen) return
      seen[m] = 1; n = split(needs[m], part, " ")
      for (i = n; i >= 1; i--) visit(name(part[i]))
      if (m in file) print file[m]
    }
    { m = name($1); file[m] = $1; needs[m] = $2 }
    END { n = split(wanted, list, /[ \n]+/); for (i = 1; i <= n; i++) visit(list[i]) }
  ' "$TREE/lib/modules/$KERNEL/modules.dep"
}

make_initramfs() {
  local applet file
  mkdir -p "$INITRAMFS"/{bin,dev,proc,sys,lib,root}
  cp "$BUSYBOX" "$INITRAMFS/bin/busybox"
  for applet in sh mount insmod switch_root; do ln -s busybox "$INITRAMFS/bin/$applet"; done
  module_files $BOOT_MODULES | while read -r file; do
    cp "$TREE/lib/modules/$KERNEL/$file" "$INITRAMFS/lib/"
    basename "$file"
  done > "$INITRAMFS/modules"
  install -m755 "$HERE/guest/initramfs/init" "$INITRAMFS/init"
  stamp "$INITRAMFS"
  (cd "$INITRAMFS" && find . -print0 | sort -z | cpio --null -o -H newc --reproducible --owner=0:0 --quiet) > "$WORK/initrd"
}

# Copies a program of the packages and the libraries it is linked with.
copy_program() {
  local library
  install -D -m755 "$TREE$1" "$ROOT${2:-$1}"
  "$TREE/$LIBS/ld-linux-x86-64.so.2" --library-path "$TREE/$LIBS:$TREE/usr/$LIBS" --list "$TREE$1" |
    awk '/=> \//{print $3}' | while read -r library; do
      case $library in "$TREE"/*) ;; *) die "$1 needs $library, which no package here brings" ;; esac
      install -m644 "$library" "$ROOT/lib/$(basename "$library")"
    done
}

link_busybox() {
  local applet
  cp "$BUSYBOX" "$ROOT/bin/busybox"
  for applet in $("$BUSYBOX" --list); do
    case $applet in
      busybox | dpkg | dpkg-deb | rpm | rpm2cpio | linuxrc) ;;
      init | getty | halt | poweroff | reboot | insmod | modprobe | rmmod | lsmod | depmod | acpid | udhcpc | ifconfig | \
        route | ip | blockdev | fdisk | mkswap | swapon | swapoff | syslogd | klogd | switch_root | mke2fs | hwclock | \
        sysctl | vconfig | uevent | watchdog | losetup | fstrim | findfs | brctl | tc | arp | ifup | ifdown | nologin | \
        run-init | sulogin | start-stop-daemon) ln -s ../bin/busybox "$ROOT/sbin/$applet" ;;
      *) ln -s busybox "$ROOT/bin/$applet" ;;
    esac
  done
}

make_root() {
  local kind file modules
  mkdir -p "$ROOT"/{bin,sbin,usr/bin,usr/sbin,lib,lib64,etc/dropbear,dev,proc,sys,run,tmp,mnt,var/log,var/lib/guest}
  mkdir -p "$ROOT"/{root/.ssh,home,usr/share/udhcpc,usr/lib}
  chmod 1777 "$ROOT/tmp"
  chmod 700 "$ROOT/root" "$ROOT/root/.ssh" "$ROOT/etc/dropbear"
  ln -s ../run "$ROOT/var/run"
  link_busybox
  copy_program /usr/sbin/dropbear
  copy_program /usr/bin/dropbearkey
  copy_program /usr/bin/dbclient
  ln -s dbclient "$ROOT/usr/bin/ssh"
  copy_program /sbin/resize2fs
  copy_program /sbin/mke2fs /usr/sbin/mke2fs
  for kind in ext2 ext3 ext4; do ln -s mke2fs "$ROOT/usr/sbin/mkfs.$kind"; done
  cp "$TREE/etc/mke2fs.conf" "$ROOT/etc/"
  [ "$WITH_QGA" != 1 ] || copy_program /usr/sbin/qemu-ga
  install -m755 "$TREE/$LIBS/ld-linux-x86-64.so.2" "$ROOT/lib64/"

  modules=lib/modules/$KERNEL
  mkdir -p "$ROOT/$modules"
  module_files $BOOT_MODULES $MODULES | while read -r file; do
    install -D -m644 "$TREE/$modules/$file" "$ROOT/$modules/$file"
  done
  cp "$TREE/$modules/modules.order" "$TREE/$modules/modules.builtin" "$ROOT/$modules/"
  "$BUSYBOX" depmod -b "$ROOT" "$KERNEL" >/dev/null 2>&1 || true
  configure_root
  stamp "$ROOT"
}

configure_root() {
  local hash
  cp -r "$HERE/guest/root/." "$ROOT/"
  find "$HERE/guest/root" -type f -printf '%P\n' | while read -r file; do
    case $file in *inittab | *lib.sh) chmod 644 "$ROOT/$file" ;; *) chmod 755 "$ROOT/$file" ;; esac
  done
  hash=$(printf %s "$GUEST_PASSWORD" | "$BUSYBOX" mkpasswd -m sha512 -S guestimagesalt -P 0)
  # The user is root under another name: this guest is for tests only.
  printf '%s\n' "root:x:0:0:root:/root:/bin/sh" "$GUEST_USER:x:0:0:test user:/root:/bin/sh" \
    "nobody:x:65534:65534:nobody:/tmp:/bin/false" > "$ROOT/etc/passwd"
  printf '%s\n' "root:$hash:19000:0:99999:7:::" "$GUEST_USER:$hash:19000:0:99999:7:::" \
    "nobody:*:19000:0:99999:7:::" > "$ROOT/etc/shadow"
  chmod 600 "$ROOT/etc/shadow"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$ROOT/etc/group"
  printf '/bin/sh\n/bin/ash\n' > "$ROOT/etc/shells"
  echo tiny-guest > "$ROOT/etc/hostname"
  echo "127.0.0.1 localhost tiny-guest" > "$ROOT/etc/hosts"
  printf '\\n login: user "%s", password "%s"; sudo is a no-op.\n\n' "$GUEST_USER" "$GUEST_PASSWORD" > "$ROOT/etc/issue"
  printf 'NAME="tiny guest"\nID=tiny-guest\nKERNEL=%s\n' "$KERNEL" > "$ROOT/etc/os-release"
  cp "$WORK/manifest" "$ROOT/etc/manifest"
  ln -s ../sbin/chpasswd "$ROOT/usr/bin/chpasswd"
  ln -s ../../bin/busybox "$ROOT/usr/bin/passwd"
  ln -s /bin/busybox "$ROOT/init"
}

# The root partition, made without mounting it. Times and owners come from the build machine, so debugfs overwrites them.
make_root_partition() {
  local uuid=6775e570-0000-4000-8000-000000000001 path field
  rm -f "$FS"
  truncate -s "$((DISK_MIB - 1 - BOOT_MIB))M" "$FS"
  export E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
  PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -b 4096 -I 256 -N 4096 -m 0 -J size=4 -L guest-root -U "$uuid" \
    -O ^metadata_csum,^64bit,^huge_file,resize_inode \
    -E "hash_seed=$uuid,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,resize=268435456" -d "$ROOT" "$FS"
  {
    (cd "$ROOT" && find . -mindepth 1 | sort) | while read -r path; do
      path=${path#.}
      for field in ctime crtime atime mtime; do echo "sif \"$path\" $field @$SOURCE_DATE_EPOCH"; done
      for field in ctime_extra crtime_extra atime_extra mtime_extra uid gid; do echo "sif \"$path\" $field 0"; done
    done
    for path in / /lost+found; do
      for field in ctime crtime atime mtime; do echo "sif $path $field @$SOURCE_DATE_EPOCH"; done
    done
  } > "$WORK/stamps"
  PATH=$PATH:/usr/sbin:/sbin debugfs -w -f "$WORK/stamps" "$FS" > "$WORK/debugfs.log" 2>&1
  PATH=$PATH:/usr/sbin:/sbin e2fsck -fn "$FS" > "$WORK/e2fsck.log" 2>&1 || die "a broken root: $(cat "$WORK/e2fsck.log")"
}

# SYSLINUX and not GRUB: under TCG GRUB needs 6 s of processor time to read kernel and initrd, SYSLINUX 1.2 s.
make_boot_partition() {
  printf 'DEFAULT guest\nPROMPT 0\nTIMEOUT 0\nLABEL guest\n LINUX /vmlinuz\n INITRD /initrd\n APPEND %s\n' \
    "$KERNEL_ARGS" > "$WORK/syslinux.cfg"
  cp "$TREE/boot/vmlinuz-$KERNEL" "$WORK/vmlinuz"
  touch -d "@$SOURCE_DATE_EPOCH" "$WORK"/{vmlinuz,initrd,syslinux.cfg}
  rm -f "$FAT"
  truncate -s "${BOOT_MIB}M" "$FAT"
  PATH=$PATH:/usr/sbin:/sbin mkfs.fat --invariant -F 16 -s 8 -i 74696e79 -n GUESTBOOT "$FAT" >/dev/null
  mcopy -m -i "$FAT" "$WORK/vmlinuz" "$WORK/initrd" "$WORK/syslinux.cfg" ::
  syslinux --install "$FAT"
  stamp_fat
}

# SYSLINUX's installer writes the clock into its directory entries: give all of them one time.
stamp_fat() {
  local reserved fats per_fat entries start entry i
  word() { od -An -tu2 -j "$1" -N2 "$FAT" | tr -d ' '; }
  byte() { od -An -tu1 -j "$1" -N1 "$FAT" | tr -d ' '; }
  reserved=$(word 14) fats=$(byte 16) entries=$(word 17) per_fat=$(word 22)
  start=$(((reserved + fats * per_fat) * 512))
  for ((i = 0; i < 16 && i < entries; i++)); do
    entry=$((start + i * 32))
    [ "$(byte $entry)" != 0 ] || break
    [ "$(byte $((entry + 11)))" != 15 ] || continue # a piece of a long name
    printf '\0\0\0\x21\x5a\x21\x5a' | dd of="$FAT" bs=1 seek=$((entry + 13)) conv=notrunc status=none
    printf '\0\0\x21\x5a' | dd of="$FAT" bs=1 seek=$((entry + 22)) conv=notrunc status=none
  done
}

assemble() {
  le32() { printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $((($1 >> 8) & 255)))\\x$(printf %02x $((($1 >> 16) & 255)))\\x$(printf %02x $((($1 >> 24) & 255)))"; }
  rm -f "$DISK"
  truncate -s "${DISK_MIB}M" "$DISK"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$DISK" bs=440 count=1 conv=notrunc status=none
  { # disk id, then two table entries: FAT (active), Linux
    le32 $((0x74696e79)); printf '\0\0'
    printf '\x80\xfe\xff\xff\x0e\xfe\xff\xff'; le32 2048; le32 $((BOOT_MIB * 2048))
    printf '\x00\xfe\xff\xff\x83\xfe\xff\xff'; le32 $(((1 + BOOT_MIB) * 2048)); le32 $(((DISK_MIB - 1 - BOOT_MIB) * 2048))
  } | dd of="$DISK" bs=1 seek=440 conv=notrunc status=none
  printf '\x55\xaa' | dd of="$DISK" bs=1 seek=510 conv=notrunc status=none
  dd if="$FAT" of="$DISK" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$FS" of="$DISK" bs=1M seek=$((1 + BOOT_MIB)) conv=notrunc,sparse status=none

  mkdir -p "$(dirname "$OUT")"
  rm -f "$OUT.new"
  qemu-img convert -f raw -O qcow2 -c \
    -o compat=1.1,cluster_size=65536,compression_type=zlib,lazy_refcounts=off "$DISK" "$OUT.new"
  # Read-only, because a careless block-commit of an overlay would write into it.
  chmod 0444 "$OUT.new"
  mv -f "$OUT.new" "$OUT"
  cp "$WORK/manifest" "$OUT.manifest"
  if [ "$RAW" = 1 ]; then
    cp --sparse=always "$DISK" "$OUT.raw"
    cp "$WORK/vmlinuz" "$OUT.vmlinuz"
    cp "$WORK/initrd" "$OUT.initrd"
  fi
}

install_tools
fetch_packages
unpack
make_initramfs
make_root
make_root_partition
make_boot_partition
assemble
say "$OUT: $(stat -c %s "$OUT") bytes, sha256 $(sha256sum < "$OUT" | cut -c1-16)"
