// SPDX-License-Identifier: GPL-2.0

#include <linux/spinlock.h>

void loft_read_lock(rwlock_t *lock)
{
	read_lock(lock);
}

void loft_read_unlock(rwlock_t *lock)
{
	read_unlock(lock);
}

void loft_rwlock_init(rwlock_t *lock, const char *name, struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__rwlock_init(lock, name, key);
#else
	rwlock_init(lock);
#endif
}

void loft_write_lock(rwlock_t *lock)
{
	write_lock(lock);
}

void loft_write_unlock(rwlock_t *lock)
{
	write_unlock(lock);
}
