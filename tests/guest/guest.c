// SPDX-License-Identifier: GPL-2.0
/* The guest runtime: messages to the host, exception dispatch, and the three library calls that compilers emit. */
#include "guest.h"

guest_handler guest_sync_handlers[64], guest_irq_handler, guest_fiq_handler, guest_serror_handler, guest_aarch32_handler;
u64 guest_page_table[512] __attribute__((aligned(4096)));

void guest_call(u64 command, const char *file, u64 line, const char *text, u64 a, u64 b)
{
	struct guest_message message = { .command = command, .file = file, .text = text, .line = line, .a = a, .b = b };

	dsb(sy);
	mmio_write64(GUEST_DOORBELL, (u64)&message);
}

/* boot.S comes here when a vCPU's function returns. */
void guest_finish(void);
void guest_finish(void)
{
	for (;;)
		GUEST_DONE();
}

void guest_exception(struct guest_regs *regs, u64 vector);
void guest_exception(struct guest_regs *regs, u64 vector)
{
	struct guest_cpu *self = guest_self();
	guest_handler handler = NULL;

	if (vector == VECTOR_SYNC && self->probing) {
		self->probing = 0;
		self->probe_esr = regs->esr;
		self->probe_far = regs->far;
		regs->pc += 4;
		return;
	}
	/* Vectors 8 to 11 are the same four, taken from EL0 in AArch64, 12 to 15 in AArch32. */
	switch (vector) {
	case VECTOR_SYNC:
	case VECTOR_SYNC + 8:
		handler = guest_sync_handlers[ESR_EC(regs->esr)];
		break;
	case VECTOR_IRQ:
	case VECTOR_IRQ + 8:
	case VECTOR_IRQ + 12:
		handler = guest_irq_handler;
		break;
	case VECTOR_SYNC + 12:
		handler = guest_aarch32_handler;
		break;
	case VECTOR_FIQ:
	case VECTOR_FIQ + 8:
		handler = guest_fiq_handler;
		break;
	case VECTOR_SERROR:
	case VECTOR_SERROR + 8:
		handler = guest_serror_handler;
		break;
	}
	if (handler) {
		handler(regs);
		return;
	}
	GUEST_NOTE("unexpected exception: vector, pc", vector, regs->pc);
	GUEST_FAIL("unexpected exception: esr, far", regs->esr, regs->far);
}

/* libc's own are chosen at run time and may use vector extensions that the guest does not have. */
void *memcpy(void *to, const void *from, size_t n)
{
	u8 *t = to;
	const u8 *f = from;

	if (((u64)t & 7) == 0 && ((u64)f & 7) == 0)
		for (; n >= 8; n -= 8, t += 8, f += 8)
			*(u64 *)t = *(const u64 *)f;
	while (n--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int value, size_t n)
{
	u8 *t = to;

	while (n--)
		*t++ = value;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n--; x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
