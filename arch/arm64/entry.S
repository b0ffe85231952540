/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The world switch and the exception vectors.
 *
 * While a guest runs, SP_EL2 is the address of its `EntryFrame` (layout.h), so the vector can save registers before it knows
 * anything else. The host's stack pointer is in the frame; the host's callee-saved registers, and the frame's address,
 * are on the host's stack. So:
 *
 *	guest runs	SP_EL2 = frame
 *	fast exit	SP_EL2 = FRAME_HOST_SP = host stack, on it (from low to high) x29 x30 x19..x28 frame
 *	host		SP_EL2 = host stack
 *
 * A fast exit runs with the guest's world still in the CPU (HCR_EL2.TGE = 0, its VTTBR_EL2, these vectors), interrupts
 * masked, but with three things of the host's back: the stack, SP_EL0 (the host's `current`, through which the kernel
 * finds preempt_count and the stack canary) and PSTATE.PAN. With TGE = 0 taking an exception to EL2 does not set PAN
 * (DDI 0487, SCTLR_EL2.SPAN), so it would be the guest's. UAO is cleared and SSBS set from SCTLR_EL2.DSSBS by the
 * exception itself. The guest's APIA key stays: what a fast exit signs it also authenticates before it resumes.
 *
 * An SError is a memory access that went wrong some time ago. Whose access it was decides who is told, and nothing but the
 * order of events says it, so each change between the guest and the host is made with none under way:
 *
 *	guest to host	with FEAT_RAS the vectors begin with an ESB, which records what the guest has left behind in DISR_EL1;
 *			without, it is waited for and taken before the host's vectors are back
 *	host to guest	with one pending the guest is not entered: the host takes it, with its own vectors
 *
 * The host's accesses in a fast exit count as the host's. What comes of the guest's goes out in FRAME_DISR.
 */
#include <linux/linkage.h>
#include <asm/alternative.h>
#include <asm/assembler.h>
#include <asm/ptrace.h>
#include <asm/sysreg.h>
#include "layout.h"

#ifdef CONFIG_SHADOW_CALL_STACK
#error "a fast exit runs with the guest's x18"
#endif

#define STACK_FRAME	96	/* where on the host's stack the frame's address is */
#define STACK_SIZE	112

#define DAIF_A		4	/* the bit of SErrors in MSR DAIFSet and DAIFClr */

	.arch	armv8.3-a

	.text

.macro save_x_to_sp
	stp	x0, x1, [sp, #FRAME_X + 8 * 0]
	stp	x2, x3, [sp, #FRAME_X + 8 * 2]
	stp	x4, x5, [sp, #FRAME_X + 8 * 4]
	stp	x6, x7, [sp, #FRAME_X + 8 * 6]
	stp	x8, x9, [sp, #FRAME_X + 8 * 8]
	stp	x10, x11, [sp, #FRAME_X + 8 * 10]
	stp	x12, x13, [sp, #FRAME_X + 8 * 12]
	stp	x14, x15, [sp, #FRAME_X + 8 * 14]
	stp	x16, x17, [sp, #FRAME_X + 8 * 16]
	stp	x18, x19, [sp, #FRAME_X + 8 * 18]
	stp	x20, x21, [sp, #FRAME_X + 8 * 20]
	stp	x22, x23, [sp, #FRAME_X + 8 * 22]
	stp	x24, x25, [sp, #FRAME_X + 8 * 24]
	stp	x26, x27, [sp, #FRAME_X + 8 * 26]
	stp	x28, x29, [sp, #FRAME_X + 8 * 28]
	str	x30, [sp, #FRAME_X + 8 * 30]
.endm

/* x1: frame. All but x0, x1, which the caller loads last, and x19-x28. */
.macro load_caller_saved
	ldp	x2, x3, [x1, #FRAME_X + 8 * 2]
	ldp	x4, x5, [x1, #FRAME_X + 8 * 4]
	ldp	x6, x7, [x1, #FRAME_X + 8 * 6]
	ldp	x8, x9, [x1, #FRAME_X + 8 * 8]
	ldp	x10, x11, [x1, #FRAME_X + 8 * 10]
	ldp	x12, x13, [x1, #FRAME_X + 8 * 12]
	ldp	x14, x15, [x1, #FRAME_X + 8 * 14]
	ldp	x16, x17, [x1, #FRAME_X + 8 * 16]
	ldr	x18, [x1, #FRAME_X + 8 * 18]
	ldp	x29, x30, [x1, #FRAME_X + 8 * 29]
.endm

.macro load_callee_saved
	ldp	x19, x20, [x1, #FRAME_X + 8 * 19]
	ldp	x21, x22, [x1, #FRAME_X + 8 * 21]
	ldp	x23, x24, [x1, #FRAME_X + 8 * 23]
	ldp	x25, x26, [x1, #FRAME_X + 8 * 25]
	ldp	x27, x28, [x1, #FRAME_X + 8 * 27]
.endm

/*
 * The barriers around the write are what erratum AC04_CPU_23 (AmpereOne) asks for: without them loads and stores nearby
 * may be translated wrongly.
 */
.macro write_hcr reg
	dsb	nsh
	msr	hcr_el2, \reg
	isb
.endm

/* ERET, and nothing speculated behind it. */
.macro return_from_exception
	eret
	dsb	nsh
	isb
.endm

/*
 * u64 loft_enter(struct EntryFrame *frame)
 *
 * Runs the guest until an exit that a fast exit does not answer; returns its FRAME_LEAVE reason. Interrupts are masked,
 * and everything else of the guest's world is in the CPU. No ISB for the rest of it: ERET synchronises (SCTLR_EL2.EOS is 1).
 *
 * An SError of the host's sends the caller back, to take it. That it would be pending now if it were to come of the host's
 * accesses is certain after a DSB for its stores, whose errors come late. Before Armv8.2 that is not promised of any
 * barrier, so there it is only looked whether one is pending. The ISB keeps the look from being done before.
 */
SYM_FUNC_START(loft_enter)
alternative_if ARM64_HAS_RAS_EXTN
	dsb	nshst
	isb
alternative_else_nop_endif
	mrs	x1, isr_el1
	tbnz	x1, #ISR_EL1_A_SHIFT, 2f

	sub	sp, sp, #STACK_SIZE
	stp	x29, x30, [sp]
	mov	x29, sp
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	str	x0, [sp, #STACK_FRAME]

	mov	x1, x0
	mrs	x2, sp_el0
	mov	x3, sp
	stp	x2, x3, [x1, #FRAME_HOST_SP_EL0]
	str	xzr, [x1, #FRAME_RESTORED]

	adrp	x2, loft_vectors
	add	x2, x2, :lo12:loft_vectors
	msr	vbar_el2, x2
	ldr	x2, [x1, #FRAME_GUEST_HCR]
	write_hcr x2
	ldp	x2, x3, [x1, #FRAME_ELR]
	msr	elr_el2, x2
	msr	spsr_el2, x3

	ldr	x2, [x1, #FRAME_HAS_PAUTH]
	cbz	x2, 1f
	mrs	x2, apiakeylo_el1
	mrs	x3, apiakeyhi_el1
	stp	x2, x3, [x1, #FRAME_HOST_KEY]
	ldp	x2, x3, [x1, #FRAME_GUEST_KEY]
	msr	apiakeylo_el1, x2
	msr	apiakeyhi_el1, x3
1:
	load_callee_saved
	ldr	x2, [x1, #FRAME_SP_EL0]
	b	loft_resume

	/* The guest has not run: what it waited for is pending still. */
2:	ldr	x1, [x0, #FRAME_GUEST_HCR]
	str	x1, [x0, #FRAME_LEFT_HCR]
	mov	x0, #FRAME_LEAVE_INTERRUPT
	ret
SYM_FUNC_END(loft_enter)

/*
 * Every exit of the guest's. In: all registers but x0, x1, x4, x29 and x30 as the guest left them.
 * x0: frame, x4: host stack, whose lowest pair is loft_enter()'s frame record, so x29 makes backtraces work.
 */
.macro exit_to handler
	msr	pan, #1
	mov	x0, sp
	mrs	x2, sp_el0
	str	x2, [x0, #FRAME_SP_EL0]
	ldp	x3, x4, [x0, #FRAME_HOST_SP_EL0]
	msr	sp_el0, x3
	mov	sp, x4
	mov	x29, x4
	mrs	x1, esr_el2
	bl	\handler
.endm

SYM_CODE_START_LOCAL(loft_exit_sync)
	exit_to	loft_fast_sync
	/* x0: the answer. */
SYM_INNER_LABEL(loft_answer, SYM_L_LOCAL)
	ldr	x1, [sp, #STACK_FRAME]
	ldp	x2, x3, [x1, #FRAME_SP_EL0]	/* and FRAME_RESTORED */
	orr	x0, x0, x3
	cbnz	x0, loft_not_resume
	/*
	 * x1: frame, x2: the guest's SP_EL0; x19-x28 are the guest's. Neither an error of the guest's that the vector's ESB has
	 * recorded may wait longer than until here, nor one of the fast exit's own accesses become the guest's, as it would
	 * right after the ERET. (Without FEAT_RAS nobody could tell the two apart.)
	 */
SYM_INNER_LABEL(loft_look_for_errors, SYM_L_LOCAL)
alternative_if ARM64_HAS_RAS_EXTN
	dsb	nshst
	isb
	mrs	x3, isr_el1
	tbnz	x3, #ISR_EL1_A_SHIFT, loft_resume_no_more
	mrs	x3, disr_el1
	cbnz	x3, loft_resume_no_more
alternative_else_nop_endif
SYM_INNER_LABEL(loft_resume, SYM_L_LOCAL)
	msr	sp_el0, x2
	mov	sp, x1
	load_caller_saved
	ldp	x0, x1, [x1, #FRAME_X]
	return_from_exception
SYM_CODE_END(loft_exit_sync)

SYM_CODE_START_LOCAL(loft_not_resume)
	cmp	x0, #FRAME_RESUME_ALL
	b.ne	loft_leave
	load_callee_saved
	b	loft_look_for_errors
SYM_CODE_END(loft_not_resume)

/* The exit has been answered, so as for an interrupt there is nothing left to do about it. */
SYM_CODE_START_LOCAL(loft_resume_no_more)
	mov	x0, #FRAME_LEAVE_INTERRUPT
	b	loft_leave
SYM_CODE_END(loft_resume_no_more)

SYM_CODE_START_LOCAL(loft_exit_irq)
	exit_to	loft_fast_irq
	b	loft_answer
SYM_CODE_END(loft_exit_irq)

SYM_CODE_START_LOCAL(loft_exit_serror)
	exit_to	loft_fast_serror
	b	loft_answer
SYM_CODE_END(loft_exit_serror)

/*
 * x0: the reason, x1: frame. The host's world comes back: HCR_EL2 and VBAR_EL2 before an interrupt can be unmasked or
 * user memory touched, the key before the next authentication. What says why the guest was left is kept before anything
 * is unmasked: any exception that the host takes, a corrected SError or one of its debugger's, writes over it.
 *
 * Where the host took an exception in the fast exit, ELR_EL2 and SPSR_EL2 are that one's: EL2's own PC and PSTATE, which
 * must never be taken for the guest's. The guest's are lost; what the frame has is from its last entry.
 */
SYM_CODE_START_LOCAL(loft_leave)
	cmp	x0, #FRAME_HOST_EXCEPTION
	b.hs	2f
	mrs	x2, elr_el2
	mrs	x3, spsr_el2
	stp	x2, x3, [x1, #FRAME_ELR]
	mrs	x2, esr_el2
	mrs	x3, far_el2
	stp	x2, x3, [x1, #FRAME_ESR]	/* and FRAME_FAR */
	mrs	x2, hpfar_el2
	mrs	x3, hcr_el2
	stp	x2, x3, [x1, #FRAME_HPFAR]	/* and FRAME_LEFT_HCR */
2:
alternative_if ARM64_HAS_RAS_EXTN
	mrs	x4, disr_el1
	cbz	x4, 3f
	msr	disr_el1, xzr
alternative_else
	bl	loft_flush_serror
	cbz	x4, 3f
	nop
alternative_endif
	str	x4, [x1, #FRAME_DISR]
3:	ldp	x2, x3, [x1, #FRAME_HOST_VBAR]	/* and FRAME_HOST_HCR */
	msr	vbar_el2, x2
	write_hcr x3
	ldr	x2, [x1, #FRAME_HAS_PAUTH]
	cbz	x2, 1f
	mrs	x2, apiakeylo_el1
	mrs	x3, apiakeyhi_el1
	stp	x2, x3, [x1, #FRAME_GUEST_KEY]
	ldp	x2, x3, [x1, #FRAME_HOST_KEY]
	msr	apiakeylo_el1, x2
	msr	apiakeyhi_el1, x3
1:
	isb
	ldp	x29, x30, [sp]
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	add	sp, sp, #STACK_SIZE
	ret
SYM_CODE_END(loft_leave)

/*
 * Without FEAT_RAS: waits for the errors of all accesses so far, and takes the SError that they become, here, since nothing
 * else makes it go away. In: x0, x1 as loft_leave. Out: x4: as DISR_EL1 would say it, which is that there was one.
 *
 * If the host took an exception in the fast exit, its vectors are back and the error is left to them.
 */
SYM_CODE_START_LOCAL(loft_flush_serror)
	mov	x4, xzr
	cmp	x0, #FRAME_HOST_EXCEPTION
	b.hs	1f
	dsb	sy
	isb
	mrs	x2, isr_el1
	tbz	x2, #ISR_EL1_A_SHIFT, 1f
	msr	daifclr, #DAIF_A
	isb					/* loft_own_serror, if not before */
	msr	daifset, #DAIF_A
1:	ret
SYM_CODE_END(loft_flush_serror)

/*
 * An SError at EL2 while these vectors are installed: loft_flush_serror() asked for it, since SErrors are masked everywhere
 * else (each exception masks them, and loft_enter()'s caller has). It may use x2 and x4 therefore. ELR_EL2 is in its window.
 */
SYM_CODE_START_LOCAL(loft_own_serror)
	mov	x4, #DISR_PENDING
	mrs	x2, spsr_el2
	orr	x2, x2, #PSR_A_BIT
	msr	spsr_el2, x2
	return_from_exception
SYM_CODE_END(loft_own_serror)

/*
 * The host took an exception while these vectors were installed: a BUG's BRK, a fault of the kernel's. Its own world is
 * put back and the instruction is run again, so that it traps again, now into the host's own vector, and the host
 * reports it as it always does. Where the host carries on (a WARN), the fast exit ends in loft_leave, since ELR_EL2 no
 * longer is the guest's. Interrupts and SErrors are masked here, so only synchronous exceptions arrive.
 */
SYM_CODE_START_LOCAL(loft_host_exception)
	stp	x0, x1, [sp, #-16]!
	adr_this_cpu x0, loft_loaded_frame, x1
	ldr	x0, [x0]
	mov	x1, #FRAME_HOST_EXCEPTION
	str	x1, [x0, #FRAME_RESTORED]
	ldr	x1, [x0, #FRAME_HOST_VBAR]
	msr	vbar_el2, x1
	ldr	x1, [x0, #FRAME_HOST_HCR]
	write_hcr x1
	ldp	x0, x1, [sp], #16
	return_from_exception
SYM_CODE_END(loft_host_exception)

/*
 * Makes the CPU forget which branches the guest has taken, so that they do not steer its speculation in the host's code
 * (Spectre-BHB). Which of the three it takes is in `loft_branch_history`, see rust/arch/spectre_bhb.rs. All of x0 to x30 may be used: they
 * are saved. In: x30: where to go on.
 */
SYM_CODE_START_LOCAL(loft_forget_branches)
	adrp	x4, loft_branch_history
	ldr	x4, [x4, :lo12:loft_branch_history]
	tbz	x4, #BRANCHES_CLEAR_BIT, 1f
	hint	#22				/* CLRBHB */
	isb
1:	ands	w5, w4, #BRANCHES_LOOPS
	b.eq	3f
2:	b	. + 4
	subs	w5, w5, #1
	b.ne	2b
	dsb	nsh				/* nothing speculated past here */
	isb
3:	lsr	x0, x4, #BRANCHES_CALL_SHIFT
	cbz	x0, 4f
	smc	#0				/* the firmware's workaround; it keeps x18 to x30 */
4:	ret
SYM_CODE_END(loft_forget_branches)

.macro from_guest target
	.balign	128
0:	esb					/* a NOP without FEAT_RAS */
	save_x_to_sp
alternative_if_not ARM64_SPECTRE_BHB
	b	\target
	nop
alternative_else
	bl	loft_forget_branches
	b	\target
alternative_endif
	.org	0b + 128	/* a vector is 32 instructions: with more, this does not assemble */
.endm

.macro from_host target=loft_host_exception
	.balign	128
	b	\target
.endm

	.balign	2048
SYM_CODE_START(loft_vectors)
	from_host				/* current EL with SP_EL0: never used */
	from_host
	from_host
	from_host
	from_host				/* current EL with SP_EL2 */
	from_host
	from_host
	from_host loft_own_serror
	from_guest loft_exit_sync		/* AArch64 */
	from_guest loft_exit_irq
	from_guest loft_exit_irq		/* FIQ: the host's business as well */
	from_guest loft_exit_serror
	from_guest loft_exit_sync		/* AArch32 EL0: loft_fast_sync() sees it in SPSR_EL2 */
	from_guest loft_exit_irq
	from_guest loft_exit_irq
	from_guest loft_exit_serror
SYM_CODE_END(loft_vectors)
