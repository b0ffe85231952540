/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the assembly finds things in `arch::frame::Frame`, and what the two tell each other. The Rust side asserts at
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
#define FRAME_LEFT_HCR		360
#define FRAME_SIZE		368

/* What a fast exit answers to the vector; from FRAME_LEAVE on it is the reason that loft_enter() returns. */
#define FRAME_RESUME		0
#define FRAME_RESUME_ALL	1
#define FRAME_LEAVE		2
/* Set by the vectors when the host itself took an exception during a fast exit. */
#define FRAME_HOST_EXCEPTION	256

/*
 * `loft_branch_history`: how often a branch has to be taken until the guest's are forgotten, whether an instruction does
 * it, and the firmware call that does.
 */
#define BRANCHES_LOOPS		0xff
#define BRANCHES_CLEAR_BIT	8
#define BRANCHES_CALL_SHIFT	32

#endif
