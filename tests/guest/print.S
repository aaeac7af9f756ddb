/*
 * To be included by the guests without Linux: print to the first serial port
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define SERIAL          0x3f8

/* Print %eax in decimal: the last digit after all the others. */
print_number:
    movl    $10, %ecx
    xorl    %edx, %edx
    divl    %ecx
    pushw   %dx
    testl   %eax, %eax
    jz      1f
    call    print_number
1:
    popw    %ax
    addb    $'0', %al
    /* fall through */

print_char:
    movb    %al, %ah
    movw    $SERIAL + 5, %dx
1:
    inb     %dx, %al
    testb   $0x20, %al                  /* room for one more? */
    jz      1b
    movw    $SERIAL, %dx
    movb    %ah, %al
    outb    %al, %dx
    ret

/* Print the text at %si, up to its NUL. */
print:
    lodsb
    testb   %al, %al
    jz      1f
    call    print_char
    jmp     print
1:
    ret
