/*
 * prepared.c
 *	  Plans of stage and close queries, and watching what they depend on.
 *
 * PostgreSQL's plan cache keeps plans by their source text, which a split query
 * has none of; so plans are kept here.  Like there, each plan lists the
 * relations, functions and types it depends on, and invalidation messages mark
 * it stale.  Changes of rarer kinds (operators, schemas, servers) mark all
 * plans.
 *
 * A stale plan is not mended: the whole view is planned again from its stored
 * query by whoever uses it.  Since messages are taken in when locks are taken,
 * a plan that is not stale after cq_prepared_lock() stays valid until the end
 * of the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/makefuncs.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "plan/prepared.h"
#include "settings.h"

static dlist_head all_prepared = DLIST_STATIC_INIT(all_prepared);

static void setting_override(const char *name, const char *value);
static void watch_begin(CqPrepared *prepared);
static void watch_end(void *arg);
static void relation_changed(Datum arg, Oid relid);
static void object_changed(Datum arg, int cache, uint32 hash);
static void anything_changed(Datum arg, int cache, uint32 hash);

Query *
cq_rewrite(Query *query)
{
	List *queries;

	query->canSetTag = true;
	AcquireRewriteLocks(query, true, false);
	queries = QueryRewrite(query);
	if (list_length(queries) != 1)
		elog(ERROR, "rewriting a SELECT gave %d queries", list_length(queries));
	return linitial_node(Query, queries);
}

CqPrepared *
cq_prepared_create(const CqPlan *plan, const Query *query, bool hash_joins, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "pipeline plan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CqPrepared *prepared = palloc0(sizeof(CqPrepared));
	Query *tree;
	int settings;

	prepared->context = context;
	prepared->relations = list_copy(plan->relations);
	prepared->inval_items = copyObject(plan->inval_items);
	watch_begin(prepared);

	settings = cq_prepared_settings_enter();
	if (!hash_joins)
		setting_override("enable_hashjoin", "off");
	tree = copyObject((Query *) query);
	cq_compat_restore_groups(tree);
	prepared->stmt = pg_plan_query(cq_rewrite(tree), "", 0, NULL);
	cq_prepared_settings_leave(settings);
	prepared->stmt->jitFlags = 0;
	prepared->relations = list_concat_unique_oid(prepared->relations, prepared->stmt->relationOids);
	prepared->inval_items = list_concat(prepared->inval_items, prepared->stmt->invalItems);
	MemoryContextSwitchTo(old);
	return prepared;
}

void
cq_prepared_free(CqPrepared *prepared)
{
	MemoryContextDelete(prepared->context);
}

bool
cq_prepared_is_stale(CqPrepared *prepared)
{
	return prepared->stale;
}

bool
cq_prepared_lock(CqPrepared *prepared)
{
	ListCell *lc;

	foreach (lc, prepared->relations)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			return false;
	}
	return true;
}

int
cq_prepared_settings_enter(void)
{
	int nest_level = NewGUCNestLevel();
	char value[32];

	snprintf(value, sizeof(value), "%d", cq_join_memory_kb);
	setting_override("work_mem", value);
	return nest_level;
}

void
cq_prepared_settings_leave(int nest_level)
{
	AtEOXact_GUC(true, nest_level);
}

/* Until the nest level is left. */
static void
setting_override(const char *name, const char *value)
{
	(void)
		set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
watch_begin(CqPrepared *prepared)
{
	static bool registered = false;
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	if (!registered)
	{
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, object_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(OPEROID, anything_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, anything_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, anything_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, anything_changed, (Datum) 0);
		registered = true;
	}
	callback->func = watch_end;
	callback->arg = prepared;
	MemoryContextRegisterResetCallback(prepared->context, callback);
	dlist_push_tail(&all_prepared, &prepared->node);
	prepared->linked = true;
}

static void
watch_end(void *arg)
{
	CqPrepared *prepared = arg;

	if (prepared->linked)
		dlist_delete(&prepared->node);
	prepared->linked = false;
}

static void
relation_changed(Datum arg, Oid relid)
{
	dlist_iter iter;

	dlist_foreach (iter, &all_prepared)
	{
		CqPrepared *prepared = dlist_container(CqPrepared, node, iter.cur);

		if (relid == InvalidOid || list_member_oid(prepared->relations, relid))
			prepared->stale = true;
	}
}

static void
object_changed(Datum arg, int cache, uint32 hash)
{
	dlist_iter iter;

	dlist_foreach (iter, &all_prepared)
	{
		CqPrepared *prepared = dlist_container(CqPrepared, node, iter.cur);
		ListCell *lc;

		foreach (lc, prepared->inval_items)
		{
			PlanInvalItem *item = lfirst_node(PlanInvalItem, lc);

			if (item->cacheId == cache && (hash == 0 || item->hashValue == hash))
				prepared->stale = true;
		}
	}
}

static void
anything_changed(Datum arg, int cache, uint32 hash)
{
	dlist_iter iter;

	dlist_foreach (iter, &all_prepared)
		dlist_container(CqPrepared, node, iter.cur)->stale = true;
}
