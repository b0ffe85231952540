// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/smp.h>

unsigned int loft_num_online_cpus(void)
{
	return num_online_cpus();
}

void loft_on_each_cpu(smp_call_func_t function)
{
	on_each_cpu(function, NULL, 1);
}
