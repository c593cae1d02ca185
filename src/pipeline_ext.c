/*
 * pipeline_ext.c
 *	  What happens when the library is loaded.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "ddl/drop.h"
#include "ddl/utility_hook.h"
#include "monitor/slots.h"
#include "runtime/launcher.h"
#include "settings.h"
#include "state/region.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Shared memory and the launcher exist only when the postmaster loads us.
 * Loaded later, by the first call of one of our functions, we define no
 * parameters and install no hooks: entry points then say what is missing
 * (cq_require_preload).  CREATE EXTENSION warns, as options of views would be
 * refused by the server, which cannot know why.  pg_upgrade must find no worker
 * of ours running.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
	{
		if (creating_extension)
			ereport(WARNING,
					errmsg("pipeline_ext is not loaded via shared_preload_libraries"),
					errdetail("Continuous views can neither be created nor kept until it is."),
					errhint("Add pipeline_ext to shared_preload_libraries in postgresql.conf and "
							"restart the server."));
		return;
	}
	cq_settings_define();
	cq_slots_init();
	cq_region_init();
	cq_utility_hook_install();
	cq_drop_hook_install();
	if (!IsBinaryUpgrade)
		cq_launcher_register();
}
