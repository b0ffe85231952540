/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a measured guest starts, and its exception vectors: as little as can be, for they are part of what is measured.
 * The MMU stays off, so that a stage-2 fault is the access's own and never one of a table walk.
 */
#include "bench.h"

	.text

/* bench_boot: EL1, MMU off, everything masked. x0: this vCPU's struct guest_cpu. Goes to the vCPU's function. */
	.global bench_boot
	.balign 8
bench_boot:
	msr	tpidr_el1, x0
	adr	x1, vectors
	msr	vbar_el1, x1
	msr	spsel, #1
	ldr	x1, [x0, #GUEST_CPU_INDEX]
	adrp	x2, bench_cpus
	add	x2, x2, :lo12:bench_cpus
	add	x2, x2, x1, lsl #BENCH_CPU_SHIFT
	msr	tpidr_el0, x2
	isb
	ldr	x1, [x0, #GUEST_CPU_STACK]
	mov	sp, x1
	mov	x29, xzr
	ldr	x1, [x0, #GUEST_CPU_ENTRY]
	ldr	x0, [x0, #GUEST_CPU_ARG]
	blr	x1
	bl	guest_finish
	b	.

/*
 * An interrupt: notes the counter first of all, acknowledges, silences the timer if that it was, ends the interrupt, and
 * counts it, in this order: who sees the count knows that the rest is done. A spurious one is not counted.
 */
interrupt:
	sub	sp, sp, #32
	stp	x0, x1, [sp]
	stp	x2, x3, [sp, #16]
	mrs	x1, tpidr_el0
	isb
	mrs	x2, cntvct_el0
	mrs	x0, ICC_IAR1_EL1
	sub	x3, x0, #27			// the virtual timer's
	cbnz	x3, 1f
	mov	x3, #3				// enabled, but masked
	msr	cntv_ctl_el0, x3
	isb
1:	mov	x3, #1020			// from here on they mean that there is none
	cmp	x0, x3
	b.hs	2f
	msr	ICC_EOIR1_EL1, x0
	isb
	str	x2, [x1, #BENCH_CPU_AT]
	ldr	x2, [x1, #BENCH_CPU_COUNT]
	add	x2, x2, #1
	dmb	ishst
	str	x2, [x1, #BENCH_CPU_COUNT]
2:	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp]
	add	sp, sp, #32
	eret

	.macro	unexpected number
	.balign 0x80
	mov	x0, #\number
	b	bench_unexpected
	.endm

	.balign 0x800
vectors:
	.irp	n, 0, 1, 2, 3, 4
	unexpected \n
	.endr
	.balign 0x80
	b	interrupt			// from EL1 with SP_EL1
	.irp	n, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	unexpected \n
	.endr
