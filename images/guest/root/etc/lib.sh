# Sourced by every script here: the path, and saying things on both consoles.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
say() { for t in /dev/ttyS0 /dev/tty1; do echo "$*" > $t; done 2>/dev/null; }
up() { cut -d' ' -f1 /proc/uptime; }
