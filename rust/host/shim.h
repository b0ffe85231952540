/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Linux's inline functions and macros as plain functions, for Rust. One line of C each where that is possible: whatever
 * decides something is written in Rust. bindgen reads this file, so it names the kernel's types but includes little.
 */
#ifndef LOFT_SHIM_H
#define LOFT_SHIM_H

#include <linux/types.h>

struct cpumask;
struct device_node;
struct file;
struct file_operations;
struct lock_class_key;
struct mm_struct;
struct module;
struct page;
struct mmu_notifier_range;
struct preempt_notifier;
struct preempt_ops;
struct raw_spinlock;
struct rcuwait;
struct user_fpsimd_state;
struct wait_queue_entry;
struct wait_queue_head;

/* Locks. The raw spin lock is also taken with interrupts off, in the exception vector. */
void loft_raw_spin_lock_init(struct raw_spinlock *lock, const char *name, struct lock_class_key *key);
unsigned long loft_raw_spin_lock_irqsave(struct raw_spinlock *lock);
bool loft_raw_spin_trylock_irqsave(struct raw_spinlock *lock, unsigned long *flags);
void loft_raw_spin_unlock_irqrestore(struct raw_spinlock *lock, unsigned long flags);
void loft_raw_spin_assert_is_held(struct raw_spinlock *lock);
void loft_rwlock_init(void *lock, const char *name, struct lock_class_key *key);
int loft_mutex_lock_killable(void *lock);
void loft_read_lock(void *lock);
void loft_read_unlock(void *lock);
void loft_write_lock(void *lock);
void loft_write_unlock(void *lock);

/* Dropping what RCU readers may still have: `drop` is called with `value` once they are done. */
int loft_rcu_begin(void);
void loft_rcu_retire(void (*drop)(void *value), void *value);
void loft_rcu_end(void);

/* What loft_follow_page() finds, if it finds anything. */
#define LOFT_MEMORY_RAM 0
#define LOFT_MEMORY_CACHED 1
#define LOFT_MEMORY_UNCACHED 2
#define LOFT_MEMORY_DEVICE 3

/* The CPU that this thread runs on. */
void loft_preempt_disable(void);
void loft_preempt_enable(void);
unsigned long loft_local_irq_save(void);
void loft_local_irq_restore(unsigned long flags);
bool loft_need_resched(void);
bool loft_single_task_running(void);
bool loft_tick_preempts(void);
bool loft_fatal_signal_pending(void);
void loft_cond_resched(void);
void loft_yield(void);
unsigned int loft_num_online_cpus(void);
void loft_on_each_cpu(void (*function)(void *));

/* Entering and leaving a guest, as the scheduler, RCU, lockdep and CPU-time accounting see it. */
void loft_guest_enter_irqoff(void);
void loft_guest_exit_irqoff(void);
bool loft_tracks_context(void);
void loft_guest_pause_irqoff(void);
void loft_guest_resume_irqoff(void);
void loft_guest_tick_irqoff(void);
bool loft_guest_work_pending(void);
bool loft_guest_work_pending_irqoff(void);
int loft_guest_handle_work(void);
void loft_guest_leave_to_user(void);
void loft_preempt_notifier_init(struct preempt_notifier *notifier, const struct preempt_ops *ops);
void loft_preempt_notifiers_inc(void);
void loft_preempt_notifiers_dec(void);

/* All of PSTATE.DAIF, with interrupts off before and after. */
void loft_daif_mask(void);
void loft_daif_unmask_noirq(void);

/* The vCPU that is loaded on this CPU, for loft_host_exception in entry.S. */
void loft_set_loaded_frame(void *frame);

/* Floating point. */
void loft_neon_begin(struct user_fpsimd_state *host);
void loft_neon_end(struct user_fpsimd_state *host);

/* Sleeping until something happens: `done(arg)` is asked with the task state already set, so no wake-up is lost. */
int loft_rcuwait_block(struct rcuwait *wait, bool (*done)(void *arg), void *arg, s64 deadline_ns);
void loft_rcuwait_init(struct rcuwait *wait);

/* Signals: both are sigset_t. */
void loft_sigprocmask(void *set, void *old);

/* Clocks. */
bool loft_real_time(u64 *ns, u64 *counter);
bool loft_sched_info_on(void);
u64 loft_run_delay(void);

/* Files. */
struct file *loft_anon_inode_getfile(const char *name, const struct file_operations *ops, void *data, int flags);
void *loft_file_private(struct file *file);

/* Memory. */
struct page *loft_virt_to_page(const void *address);
u64 loft_page_to_phys(struct page *page);
void *loft_phys_to_virt(u64 physical);
u64 loft_virt_to_phys(const void *address);
void loft_put_page(struct page *page);
unsigned int loft_host_leaf_shift(struct mm_struct *mm, unsigned long address);
int loft_get_page(unsigned long address, bool write, bool *writable, struct page **page);
int loft_follow_page(unsigned long address, bool write, bool *writable, u64 *physical);
int loft_check_memory(unsigned long start, unsigned long size, bool logs, bool cacheable);
void loft_report_poison(unsigned long address);
void loft_report_error(u64 physical);
void loft_uncontained_error(u64 esr);
bool loft_range_blockable(const struct mmu_notifier_range *range);
void loft_mmgrab(struct mm_struct *mm);
void loft_mmdrop(struct mm_struct *mm);
struct mm_struct *loft_current_mm(void);
bool loft_access_ok(unsigned long address, unsigned long size);

/* Interrupts. */
int loft_request_ppi(unsigned int irq, const char *name, void *token);
void loft_of_node_put(struct device_node *node);
unsigned int loft_irq_of_parse_and_map(struct device_node *node, int index);
void loft_dmb_before_guest(void);
int loft_cpuhp_online(int (*online)(unsigned int cpu), int (*offline)(unsigned int cpu));
void loft_cpuhp_remove(int state);

/* CPU features that the host has settled on. */
bool loft_this_cpu_has_spectre_bhb(void);
/* What is wrong with this machine's CPUs, as bits; arch::cpu says what loft does about each. */
#define LOFT_REPEAT_TLBI	(1 << 0)
#define LOFT_SPECULATIVE_AT	(1 << 1)
#define LOFT_MMU_WRITES_TRAP	(1 << 2)
#define LOFT_HIDDEN_HAFDBS	(1 << 3)
#define LOFT_NO_CNTVOFF		(1 << 4)
#define LOFT_CACHES_DIFFER	(1 << 5)
#define LOFT_PAR_DEADLOCK	(1 << 6)
#define LOFT_LOAD_DEADLOCK	(1 << 7)
#define LOFT_STEP_LOSES_PSTATE	(1 << 8)
#define LOFT_REPEAT_CLEANING	(1 << 9)
unsigned int loft_errata(void);
bool loft_cpus_have_pauth(void);
u64 loft_cntfrq(void);
int loft_smccc_workaround(u32 function);
#define LOFT_SPECTRE_V2		1
#define LOFT_SPECTRE_V4		2
#define LOFT_SPECTRE_BHB	4
unsigned int loft_speculation_flaws(void);

/*
 * Events: puts `entry` first into the wait queue of an eventfd, alone in being called. 0, 1 if the eventfd has a count, or
 * -EBUSY.
 */
int loft_eventfd_watch(struct file *file, struct wait_queue_entry *entry,
		       int (*wake)(struct wait_queue_entry *, unsigned int, int, void *));

#endif
