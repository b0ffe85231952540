/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the assembly finds things in `arch::frame::EntryFrame`, and what the two tell each other. The Rust side asserts at
 * compile time that these are the offsets of its fields, so that neither side can move alone.
 */
#ifndef LOFT_LAYOUT_H
#define LOFT_LAYOUT_H

#define FRAME_X			0
/* Read as a pair on the way back into the guest. */
#define FRAME_SP_EL0		248
#define FRAME_RESTORED		256
/* Read as a pair on the way out of it. */
#define FRAME_HOST_SP_EL0	264
#define FRAME_HOST_SP		272
#define FRAME_HOST_VBAR		280
#define FRAME_HOST_HCR		288
#define FRAME_GUEST_HCR		296
#define FRAME_ELR		304
#define FRAME_SPSR		312
#define FRAME_HOST_KEY		320
#define FRAME_GUEST_KEY		336
#define FRAME_HAS_PAUTH		352
#define FRAME_DISR		360
/* Written as two pairs on the way out of it. */
#define FRAME_ESR		368
#define FRAME_FAR		376
#define FRAME_HPFAR		384
#define FRAME_LEFT_HCR		392
#define FRAME_SIZE		400

/* What a fast exit answers to the vector; from FRAME_LEAVE on it is the reason that loft_enter() returns. */
#define FRAME_RESUME		0
#define FRAME_RESUME_ALL	1
#define FRAME_LEAVE		2
/* The vectors' own: nothing is left to be done about the exit, as for an interrupt. */
#define FRAME_LEAVE_INTERRUPT	4
/* Set by the vectors when the host itself took an exception during a fast exit. */
#define FRAME_HOST_EXCEPTION	256

/* DISR_EL1.A: an SError was recorded. */
#define DISR_PENDING		(1 << 31)

/*
 * `loft_branch_history`: how often a branch has to be taken until the guest's are forgotten, whether an instruction does
 * it, and the firmware call that does.
 */
#define BRANCHES_LOOPS		0xff
#define BRANCHES_CLEAR_BIT	8
#define BRANCHES_CALL_SHIFT	32

#endif
