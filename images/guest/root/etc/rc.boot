#!/bin/sh
# File systems, modules, the power button, SSH and the guest agent.
. /etc/lib.sh
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/meta /dev/pts /dev/shm
mount -t devpts -o gid=0,mode=620 devpts /dev/pts; mount -t tmpfs shm /dev/shm
ln -sf /proc/self/fd /dev/fd; ln -sf /proc/mounts /etc/mtab 2>/dev/null
hostname -F /etc/hostname
ip link set lo up
for m in virtio_net virtio_rng evdev button virtio_console sr_mod isofs; do modprobe $m 2>/dev/null; done
acpid -c /etc/acpi -l /var/log/acpid.log -p /run/acpid.pid   # power button -> /etc/acpi/PWRF/00000080
uevent /etc/hotplug </dev/null >/dev/null 2>&1 &
klogd -n >/dev/null 2>&1 & syslogd -C64 2>/dev/null
[ -s /etc/dropbear/dropbear_ed25519_host_key ] || dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key >/run/hostkey 2>&1
dropbear -r /etc/dropbear/dropbear_ed25519_host_key -p 22
if [ -x /usr/sbin/qemu-ga ] && grep -qs org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name; then
  for p in /sys/class/virtio-ports/*; do grep -q org.qemu.guest_agent.0 $p/name && \
    qemu-ga -d -p /dev/${p##*/} -t /run -f /run/qga.pid -l /var/log/qga.log; done
fi
say "rc.boot done at $(up)"
exit 0
