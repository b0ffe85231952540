// SPDX-License-Identifier: GPL-2.0
/* See module.h. */
#include <linux/module.h>
#include <linux/moduleparam.h>
#include "module.h"

MODULE_VERSION(LOFT_MODULE_VERSION);

unsigned int loft_kvm_node;
unsigned int loft_fast = 1;
unsigned int loft_poll_us = 50;
unsigned int loft_wait_us = 500;
unsigned int loft_pretended_errata;

/* Longer than a waiting vCPU is worth a CPU: what it waits for so long, it can as well be woken for. */
#define LOFT_MOST_POLL_US	10000

/* What is out of range is refused with a message of the kernel's that names the value and the parameter. */
static int set_switch(const char *value, const struct kernel_param *param)
{
	return param_set_uint_minmax(value, param, 0, 1);
}

/* poll_us and wait_us. */
static int set_poll_us(const char *value, const struct kernel_param *param)
{
	return param_set_uint_minmax(value, param, 0, LOFT_MOST_POLL_US);
}

static const struct kernel_param_ops switch_ops = { .set = set_switch, .get = param_get_uint };
static const struct kernel_param_ops poll_us_ops = { .set = set_poll_us, .get = param_get_uint };

module_param_cb(kvm_node, &switch_ops, &loft_kvm_node, 0444);
__MODULE_PARM_TYPE(kvm_node, "uint");
MODULE_PARM_DESC(kvm_node, "1: also register the name /dev/kvm, for programs that cannot be told a device path");

module_param_cb(fast, &switch_ops, &loft_fast, 0444);
__MODULE_PARM_TYPE(fast, "uint");
MODULE_PARM_DESC(fast, "0: answer every exit the slow way (for comparing the two)");

module_param_cb(poll_us, &poll_us_ops, &loft_poll_us, 0444);
__MODULE_PARM_TYPE(poll_us, "uint");
MODULE_PARM_DESC(poll_us,
	"for how many microseconds at most a waiting vCPU looks for something to do before it sleeps (up to 10000); 0: not at all");

module_param_cb(wait_us, &poll_us_ops, &loft_wait_us, 0444);
__MODULE_PARM_TYPE(wait_us, "uint");
MODULE_PARM_DESC(wait_us,
	"for how many microseconds at most a vCPU's WFI keeps its CPU while no other thread wants it (up to 10000); 0: not at all");

module_param_named(errata, loft_pretended_errata, uint, 0444);
MODULE_PARM_DESC(errata,
	"work around these errata although the CPUs do not have them, as bits (for tests; erratum in rust/arch/cpu.rs)");
