// SPDX-License-Identifier: GPL-2.0

#include <linux/spinlock.h>

void loft_raw_spin_assert_is_held(raw_spinlock_t *lock)
{
	lockdep_assert_held(lock);
}

void loft_raw_spin_lock_init(raw_spinlock_t *lock, const char *name, struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init(lock);
#endif
}

unsigned long loft_raw_spin_lock_irqsave(raw_spinlock_t *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(lock, flags);
	return flags;
}

bool loft_raw_spin_trylock_irqsave(raw_spinlock_t *lock, unsigned long *flags)
{
	return raw_spin_trylock_irqsave(lock, *flags);
}

void loft_raw_spin_unlock_irqrestore(raw_spinlock_t *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore(lock, flags);
}

/* With interrupts masked by PSTATE: the lock alone. */
notrace void loft_raw_spin_lock_masked(raw_spinlock_t *lock)
{
	arch_spin_lock(&lock->raw_lock);
}

notrace void loft_raw_spin_unlock_masked(raw_spinlock_t *lock)
{
	arch_spin_unlock(&lock->raw_lock);
}
