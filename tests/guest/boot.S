/* SPDX-License-Identifier: GPL-2.0 */
/* Where every vCPU of a test guest starts, and the guest's exception vectors. */
#include "guest.h"

	.text

/*
 * guest_boot: EL1, MMU off, everything masked. x0: this vCPU's struct guest_cpu.
 * Ends in the vCPU's function with the MMU on.
 */
	.global guest_boot
	.balign 8
guest_boot:
	mov	x19, x0
	ldr	x1, =0xff04			// attribute 0: Device-nGnRE, 1: normal write-back
	msr	mair_el1, x1
	ldr	x1, =(25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32) // 39 bits in TTBR0, inner shareable, none in TTBR1, 40-bit output
	msr	tcr_el1, x1
	adrp	x1, guest_page_table
	msr	ttbr0_el1, x1
	isb
	tlbi	vmalle1
	dsb	nsh
	isb
	ldr	x1, =0x30d0198d			// RES1 bits, MMU, both caches, stack alignment, no traps of EL0
	msr	sctlr_el1, x1
	mov	x1, #3 << 20
	msr	cpacr_el1, x1
	adr	x1, guest_vectors
	msr	vbar_el1, x1
	msr	tpidr_el1, x19
	msr	spsel, #1
	isb
	ldr	x1, [x19, #GUEST_CPU_STACK]
	mov	sp, x1
	mov	x29, xzr
	ldr	x0, [x19, #GUEST_CPU_ARG]
	ldr	x1, [x19, #GUEST_CPU_ENTRY]
	blr	x1
	bl	guest_finish
	b	.

/* Saves struct guest_regs on the stack (36 words), calls guest_exception(regs, vector), restores and returns. */
	.macro	vector number
	.balign 0x80
	sub	sp, sp, #288
	stp	x0, x1, [sp]
	mov	x0, #\number
	b	guest_vector_common
	.endm

	.balign 0x800
guest_vectors:
	.irp	n, 4, 5, 6, 7			// from EL1 with SP_EL0: not used, reported as such
	vector	\n
	.endr
	.irp	n, 0, 1, 2, 3			// from EL1
	vector	\n
	.endr
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15	// from EL0
	vector	\n
	.endr

guest_vector_common:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	add	x2, sp, #288
	stp	x30, x2, [sp, #240]
	mrs	x2, elr_el1
	mrs	x3, spsr_el1
	stp	x2, x3, [sp, #256]
	mrs	x2, esr_el1
	mrs	x3, far_el1
	stp	x2, x3, [sp, #272]
	mov	x1, x0
	mov	x0, sp
	bl	guest_exception
	ldp	x2, x3, [sp, #256]
	msr	elr_el1, x2
	msr	spsr_el1, x3
	ldp	x2, x3, [sp, #16]
	ldp	x4, x5, [sp, #32]
	ldp	x6, x7, [sp, #48]
	ldp	x8, x9, [sp, #64]
	ldp	x10, x11, [sp, #80]
	ldp	x12, x13, [sp, #96]
	ldp	x14, x15, [sp, #112]
	ldp	x16, x17, [sp, #128]
	ldp	x18, x19, [sp, #144]
	ldp	x20, x21, [sp, #160]
	ldp	x22, x23, [sp, #176]
	ldp	x24, x25, [sp, #192]
	ldp	x26, x27, [sp, #208]
	ldp	x28, x29, [sp, #224]
	ldr	x30, [sp, #240]
	ldp	x0, x1, [sp]
	add	sp, sp, #288
	eret
