/*
 * The smallest test guest: 512 octets that count, without Linux
 *
 * It talks as init.c does: "count N ok" to the first serial port ten times a
 * second, and "count N BAD" for ever once memory is not as it was left.  In
 * between, at each of 100 ticks a second, it looks whether every page of its
 * working set (128 pages from 64 KiB up) still holds the number of the tick
 * before, at its start and, inverted and mixed with its segment, at its end,
 * and writes the next.  That number itself lives in a register only.  The
 * ticks come from the interval timer through the interrupt controller, and
 * between them the processor halts: their state has to survive too.  KVM is
 * asked to keep its clock in memory at CLOCK, for a test to look at.
 *
 * The file is the image of a disk, to be built with
 *     gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none \
 *         -Wl,-Ttext=0x7c00,-e0x7c00,--oformat=binary -o boot-sector $<
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define TICKS_PER_COUNT 10
#define TIMER_DIVISOR   11932           /* 1193182 Hz / 100 */
#define SET_FIRST       0x1000          /* segments; a page has 0x100 */
#define SET_END         0x9000
#define PAGE_LAST       0xffc           /* offset of the last word */
#define CLOCK           0x8000          /* struct pvclock_vcpu_time_info */
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01      /* nobody's under TCG */

    .code16
    .text

/*
 * %ebp  number of the tick        %ds   0, or the page at hand
 * %ebx  count                     %cx   ticks left to this count
 */
start:
    cli
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %ss
    movw    $0x7c00, %sp
    ljmp    $0, $1f
1:
    cld
    movw    $timer, 8 * 4               /* IRQ 0 is vector 8 */
    movw    %ax, 8 * 4 + 2
    movb    $0x34, %al                  /* counter 0, rate generator */
    outb    %al, $0x43
    movw    $TIMER_DIVISOR, %ax
    outb    %al, $0x40
    movb    %ah, %al
    outb    %al, $0x40
    movb    $0xfe, %al                  /* no interrupt but the timer's */
    outb    %al, $0x21
    movl    $MSR_KVM_SYSTEM_TIME_NEW, %ecx
    movl    $CLOCK | 1, %eax
    xorl    %edx, %edx
    wrmsr

    xorl    %ebp, %ebp
    xorl    %ebx, %ebx
    movw    $write_page, %di
    call    each_page
next_count:
    movw    $TICKS_PER_COUNT, %cx
next_tick:
    sti
    hlt
    cli
    pushw   %cx
    movw    $check_page, %di
    call    each_page
    incl    %ebp
    movw    $write_page, %di
    call    each_page
    popw    %cx
    loop    next_tick

    incl    %ebx
    movw    $text_count, %si
    call    print
    movl    %ebx, %eax
    call    print_number
    movw    verdict, %si
    call    print
    jmp     next_count

timer:
    pushw   %ax
    movb    $0x20, %al                  /* end of interrupt */
    outb    %al, $0x20
    popw    %ax
    iret

/* Call %di with each page of the set in %es, and its end word in %eax. */
each_page:
    movw    $SET_FIRST, %cx
1:
    movw    %cx, %es
    movl    %ebp, %eax
    notl    %eax
    xorw    %cx, %ax
    call    *%di
    addw    $0x100, %cx
    cmpw    $SET_END, %cx
    jne     1b
    ret

write_page:
    movl    %ebp, %es:0
    movl    %eax, %es:PAGE_LAST
    ret

check_page:
    cmpl    %ebp, %es:0
    jne     1f
    cmpl    %eax, %es:PAGE_LAST
    je      2f
1:
    movw    $text_bad, verdict
2:
    ret

#include "print.S"

verdict:
    .word   text_ok
text_count:
    .asciz  "count "
text_ok:
    .asciz  " ok\n"
text_bad:
    .asciz  " BAD\n"

    .org    510
    .word   0xaa55

    .org    1 << 20                     /* a BIOS wants a whole cylinder */
