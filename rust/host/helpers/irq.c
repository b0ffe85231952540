// SPDX-License-Identifier: GPL-2.0

#include <linux/interrupt.h>

/* In C, as irqreturn_t has another type in Rust with each version. */
static irqreturn_t loft_handled(int irq, void *token)
{
	return IRQ_HANDLED;
}

/* The handler is reached only if a line of the guest's rises while the host's interrupts are on: loft masks them before. */
int loft_request_percpu_irq(unsigned int irq, const char *name, void *token)
{
	return request_percpu_irq(irq, loft_handled, name, (void __percpu *)token);
}
