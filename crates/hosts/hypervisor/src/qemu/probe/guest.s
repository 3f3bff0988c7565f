# The probe guest: a boot sector that does what loaders and kernels do first, and says so on port 0x501.
#
# A processor that only pretends to virtualise fails here: real mode and BIOS calls, protected mode and back, paging,
# long mode, an interrupt with CPUID. The bytes in probe.rs are made from this file:
#   as --64 -o guest.o guest.s && ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
.code16
.globl _start
_start:
  cli
  xorw %ax,%ax
  movw %ax,%ds
  movw %ax,%es
  movw %ax,%ss
  movw $0x7c00,%sp
  sti
  movw $0x0e2e,%ax
  int $0x10
  cli
  lgdtw gdtr
  movl %cr0,%eax
  orb $1,%al
  movl %eax,%cr0
  ljmpw $0x08,$pm
.code32
pm:
  movw $0x10,%ax
  movw %ax,%ds
  movw %ax,%ss
  ljmpl $0x18,$pm16
.code16
pm16:
  movw $0x20,%ax
  movw %ax,%ds
  movw %ax,%ss
  movl %cr0,%eax
  andb $0xfe,%al
  movl %eax,%cr0
  ljmpw $0,$real
# Back in real mode, the BIOS must still read the disk: this very sector.
real:
  xorw %ax,%ax
  movw %ax,%ds
  movw %ax,%es
  movw %ax,%ss
  sti
  movw $0x0201,%ax
  movw $0x7e00,%bx
  movw $1,%cx
  movw $0x80,%dx
  int $0x13
  jc stop
  cmpw $0xaa55,0x7ffe
  jne stop
  cli
# Three page tables at 0x1000 map the first 2 MiB, then paging and long mode go on together.
  movl $0x1000,%edi
  movl %edi,%cr3
  xorl %eax,%eax
  movw $0xc00,%cx
  cld
  rep stosl
  movw $0x2003,0x1000
  movw $0x3003,0x2000
  movw $0x83,0x3000
  movl %cr4,%eax
  orb $0x20,%al
  movl %eax,%cr4
  movl $0xc0000080,%ecx
  rdmsr
  orb $1,%ah
  wrmsr
  movl %cr0,%eax
  orl $0x80000001,%eax
  movl %eax,%cr0
  ljmpw $0x28,$lm
.code64
lm:
  movw $0x10,%ax
  movw %ax,%ds
  movw %ax,%ss
  movl $0x7c00,%esp
  lidt idtr
  int $0
  movw $0x501,%dx
  movb $0x10,%al
  outb %al,%dx
stop:
  hlt
  jmp stop
isr:
  xorl %eax,%eax
  cpuid
  iretq
gdtr:
  .word 47
  .long gdt
idtr:
  .word 15
  .quad idt
.balign 8
gdt:
  .quad 0
  .quad 0x00cf9a000000ffff
  .quad 0x00cf92000000ffff
  .quad 0x00009a000000ffff
  .quad 0x000092000000ffff
  .quad 0x00af9a000000ffff
idt:
  .word isr
  .word 0x28
  .word 0x8e00
  .word 0
  .quad 0
.org 510
  .word 0xaa55
