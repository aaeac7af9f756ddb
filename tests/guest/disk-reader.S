/*
 * A test guest that reads its disk for ever, without Linux
 *
 * It is the first sector of a disk of SECTORS, of which sector n, from the
 * 8th, begins with the number n and ends with its complement.  It reads them
 * by the BIOS, eight at once, into a buffer that it wipes before, looks at
 * what came, and says so on the first serial port as the other guests do:
 * "count N ok" after each 16 reads, or "count N BAD" for ever once one has
 * failed or brought what does not belong there.  If the octet at 508 of the
 * disk is not 0, it writes what it is going to read.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define SECTORS         2048
#define FIRST           8
#define BUFFER          0x1000          /* segment */
#define READS_PER_COUNT 16

    .code16
    .text

/*
 * %ebx  count                     %ebp  sector at hand
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
    movb    %dl, drive
    movw    $BUFFER, %ax
    movw    %ax, %es
    xorl    %ebx, %ebx
    movl    $FIRST, %ebp
next_count:
    movw    $READS_PER_COUNT, %cx
next_read:
    pushw   %cx
    movl    %ebp, packet_sector
    cmpb    $0, writes
    je      2f
    movl    %ebp, %eax                  /* write */
    xorw    %di, %di
1:
    movl    %eax, %es:(%di)
    notl    %eax
    movl    %eax, %es:508(%di)
    notl    %eax
    incl    %eax
    addw    $512, %di
    cmpw    $8 * 512, %di
    jne     1b
    movw    $0x4300, %ax
    call    bios
2:
    xorl    %eax, %eax                  /* wipe */
    xorw    %di, %di
    movw    $8 * 512 / 4, %cx
    rep stosl
    movb    $0x42, %ah                  /* read */
    call    bios

    xorw    %di, %di                    /* look */
1:
    cmpl    %ebp, %es:(%di)
    jne     2f
    movl    %ebp, %eax
    notl    %eax
    cmpl    %eax, %es:508(%di)
    jne     2f
    incl    %ebp
    addw    $512, %di
    cmpw    $8 * 512, %di
    jne     1b
    cmpl    $SECTORS, %ebp
    jne     3f
    movl    $FIRST, %ebp
    jmp     3f
2:
    movw    $text_bad, verdict
    andw    $~7, %bp
3:
    popw    %cx
    decw    %cx
    jnz     next_read

    incl    %ebx
    movw    $text_count, %si
    call    print
    movl    %ebx, %eax
    call    print_number
    movw    verdict, %si
    call    print
    jmp     next_count

/* Have the BIOS do %ax, an extended read or write. */
bios:
    movw    $packet, %si
    movb    drive, %dl
    pushal
    pushw   %es
    int     $0x13
    popw    %es
    popal                               /* the flags stay */
    jnc     1f
    movw    $text_bad, verdict
1:
    ret

#include "print.S"

drive:
    .byte   0
    .balign 4
packet:                                 /* what the BIOS is to read */
    .byte   16, 0
    .word   8                           /* sectors */
    .word   0, BUFFER                   /* where to */
packet_sector:
    .long   0, 0

verdict:
    .word   text_ok
text_count:
    .asciz  "count "
text_ok:
    .asciz  " ok\n"
text_bad:
    .asciz  " BAD\n"

    .org    508
writes:
    .byte   0, 0
    .word   0xaa55
