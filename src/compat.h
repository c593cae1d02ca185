/*
 * compat.h
 *	  The only place that tests PG_VERSION_NUM: one shim per difference of
 *	  PostgreSQL 15 to 18 that the rest of the code would otherwise see.
 */
#pragma once

#include "postgres.h"

#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pipeline_ext supports PostgreSQL 15 to 18"
#endif

/* pg_attribute_noreturn() behind a declarator became pg_noreturn in front of it in 18. */
#define CQ_NORETURN __attribute__((noreturn))

/* Named wait events of extensions: new in 17. */
static inline uint32
cq_compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

/* ExecInsertIndexTuples() got the argument onlySummarizing in 16. */
#include "executor/executor.h"

static inline List *
cq_compat_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false);
#else
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
}

/* RelationGetPrimaryKeyIndex() got the argument deferrable_ok in 18. */
#include "utils/relcache.h"

static inline Oid
cq_compat_primary_key(Relation relation)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(relation, false);
#else
	return RelationGetPrimaryKeyIndex(relation);
#endif
}

/* index_beginscan() got instrumentation in 18. */
#include "access/genam.h"

static inline IndexScanDesc
cq_compat_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* simple_table_tuple_update() tells which indexes to update as an enum from 16 on. */
#include "access/tableam.h"

static inline void
cq_compat_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot, Snapshot snapshot,
					   bool *update_indexes)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes which;

	simple_table_tuple_update(rel, tid, slot, snapshot, &which);
	*update_indexes = which != TU_None;
#else
	simple_table_tuple_update(rel, tid, slot, snapshot, update_indexes);
#endif
}

/* Ownership checks by class of object became one function in 16. */
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace.h"
#include "utils/acl.h"

static inline bool
cq_compat_owns_relation(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, role);
#else
	return pg_class_ownercheck(relid, role);
#endif
}

static inline bool
cq_compat_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

static inline AclResult
cq_compat_tablespace_aclcheck(Oid tablespace, Oid role, AclMode mode)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(TableSpaceRelationId, tablespace, role, mode);
#else
	return pg_tablespace_aclcheck(tablespace, role, mode);
#endif
}

/* Functions beneath REINDEX got the statement as an argument, for event triggers, in 17. */
#include "catalog/index.h"
#include "utils/lsyscache.h"

static inline void
cq_compat_reindex_index(const ReindexStmt *stmt, Oid index)
{
	ReindexParams params = {0};

#if PG_VERSION_NUM >= 170000
	reindex_index(stmt, index, false, get_rel_persistence(index), &params);
#else
	(void) stmt;
	reindex_index(index, false, get_rel_persistence(index), &params);
#endif
}

static inline void
cq_compat_reindex_table(const ReindexStmt *stmt, Oid table)
{
	ReindexParams params = {0};
	int flags = REINDEX_REL_PROCESS_TOAST | REINDEX_REL_CHECK_CONSTRAINTS;

#if PG_VERSION_NUM >= 170000
	(void) reindex_relation(stmt, table, flags, &params);
#else
	(void) stmt;
	(void) reindex_relation(table, flags, &params);
#endif
}

/* DefineIndex() got the argument total_parts in 16. */
#include "commands/defrem.h"

static inline ObjectAddress
cq_compat_define_index(Oid relid, IndexStmt *stmt, bool check_rights)
{
#if PG_VERSION_NUM >= 160000
	return DefineIndex(relid,
					   stmt,
					   InvalidOid,
					   InvalidOid,
					   InvalidOid,
					   -1,
					   false,
					   check_rights,
					   true,
					   false,
					   false);
#else
	return DefineIndex(relid,
					   stmt,
					   InvalidOid,
					   InvalidOid,
					   InvalidOid,
					   false,
					   check_rights,
					   true,
					   false,
					   false);
#endif
}

/* make_range() got an error context in 16. */
#include "utils/rangetypes.h"

static inline RangeType *
cq_compat_make_range(TypeCacheEntry *typcache, RangeBound *lower, RangeBound *upper)
{
#if PG_VERSION_NUM >= 160000
	return make_range(typcache, lower, upper, false, NULL);
#else
	return make_range(typcache, lower, upper, false);
#endif
}

/* Object access checks got one function for all kinds in 16. */
#include "catalog/pg_proc.h"
#include "utils/acl.h"

static inline AclResult
cq_compat_function_aclcheck(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE);
#endif
}

#include "catalog/pg_foreign_server.h"

static inline AclResult
cq_compat_server_aclcheck(Oid server, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE);
#else
	return pg_foreign_server_aclcheck(server, role, ACL_USAGE);
#endif
}

/* transaction_timeout came in 17; unlike the other timeouts it applies to background workers. */
#include "utils/guc.h"

static inline void
cq_compat_pin_transaction_timeout(void)
{
#if PG_VERSION_NUM >= 170000
	SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
#endif
}

/* Wait event sets belong to resource owners from 17 on; ours to none. */
#include "storage/latch.h"

static inline WaitEventSet *
cq_compat_create_wait_event_set(MemoryContext context, int nevents)
{
#if PG_VERSION_NUM >= 170000
	(void) context;
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(context, nevents);
#endif
}

/* create_foreignscan_path() got restriction clauses in 17 and disabled_nodes in 18. */
#include "optimizer/pathnode.h"

static inline ForeignPath *
cq_compat_foreign_path(PlannerInfo *root, RelOptInfo *rel, double rows, Cost startup, Cost total,
					   Relids required_outer)
{
#if PG_VERSION_NUM >= 180000
	return create_foreignscan_path(root,
								   rel,
								   NULL,
								   rows,
								   0,
								   startup,
								   total,
								   NIL,
								   required_outer,
								   NULL,
								   NIL,
								   NIL);
#elif PG_VERSION_NUM >= 170000
	return create_foreignscan_path(root,
								   rel,
								   NULL,
								   rows,
								   startup,
								   total,
								   NIL,
								   required_outer,
								   NULL,
								   NIL,
								   NIL);
#else
	return create_foreignscan_path(root,
								   rel,
								   NULL,
								   rows,
								   startup,
								   total,
								   NIL,
								   required_outer,
								   NULL,
								   NIL);
#endif
}

/* Whose rights a scan or an INSERT has: kept apart from the range table from 16 on. */
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"

static inline Oid
cq_compat_scan_user(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
#if PG_VERSION_NUM >= 160000
	Oid user = plan->checkAsUser;
#else
	Oid user = exec_rt_fetch(plan->scan.scanrelid, node->ss.ps.state)->checkAsUser;
#endif

	return OidIsValid(user) ? user : GetUserId();
}

static inline Oid
cq_compat_insert_user(ResultRelInfo *rri, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecGetResultRelCheckAsUser(rri, estate);
#else
	Oid user = InvalidOid;

	if (rri->ri_RangeTableIndex > 0)
		user = exec_rt_fetch(rri->ri_RangeTableIndex, estate)->checkAsUser;
	else if (rri->ri_RootResultRelInfo && rri->ri_RootResultRelInfo->ri_RangeTableIndex > 0)
		user = exec_rt_fetch(rri->ri_RootResultRelInfo->ri_RangeTableIndex, estate)->checkAsUser;
	return OidIsValid(user) ? user : GetUserId();
#endif
}

/* ExplainProperty*() moved to a header of their own in 18. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#endif

/* How many transactions with an id have ended since start; the variable was renamed in 17. */
#include "access/transam.h"

static inline uint64
cq_compat_xact_completion_count(void)
{
#if PG_VERSION_NUM >= 170000
	return TransamVariables->xactCompletionCount;
#else
	return ShmemVariableCache->xactCompletionCount;
#endif
}

/* heap_form_minimal_tuple() can leave room in front of the tuple in 18. */
#include "access/htup_details.h"

static inline MinimalTuple
cq_compat_form_minimal_tuple(TupleDesc desc, Datum *values, bool *nulls)
{
#if PG_VERSION_NUM >= 180000
	return heap_form_minimal_tuple(desc, values, nulls, 0);
#else
	return heap_form_minimal_tuple(desc, values, nulls);
#endif
}

/*
 * Query trees of views: rules carried entries for OLD and NEW up to 15; rights
 * are kept apart from the range table from 16 on; grouping expressions have a
 * range table entry of their own from 18 on.
 */
#include "access/sysattr.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "utils/lsyscache.h"

#if PG_VERSION_NUM >= 160000
#define CQ_COMPAT_RULE_ENTRIES 0
#else
#define CQ_COMPAT_RULE_ENTRIES 2
#endif

static inline Node *
cq_compat_flatten_joins(Query *query, Node *expr)
{
#if PG_VERSION_NUM >= 160000
	return flatten_join_alias_vars(NULL, query, expr);
#else
	return flatten_join_alias_vars(query, expr);
#endif
}

/* The operator family that a "<" or ">" operator belongs to, if it is one. */
static inline bool
cq_compat_ordering_family(Oid ordering, Oid *opfamily)
{
	Oid type;
#if PG_VERSION_NUM >= 180000
	CompareType direction;
#else
	int16 direction;
#endif

	return get_ordering_op_properties(ordering, opfamily, &type, &direction);
}

static inline void
cq_compat_flatten_groups(Query *query)
{
#if PG_VERSION_NUM >= 180000
	ListCell *lc;

	if (!query->hasGroupRTE)
		return;
	query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
	query->havingQual = flatten_group_exprs(NULL, query, query->havingQual);
	query->hasGroupRTE = false;
	/* its number in the range table stays taken, by an entry that stands for nothing */
	foreach (lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_GROUP)
		{
			rte->rtekind = RTE_RESULT;
			rte->groupexprs = NIL;
		}
	}
#else
	(void) query;
#endif
}

/* Do grouping expressions have an entry in the range table? */
#define CQ_COMPAT_GROUP_ENTRIES (PG_VERSION_NUM >= 180000)

/*
 * Before a query is planned: undo that where there are grouping sets.  Their
 * columns may be null where what is grouped by is not, and since 18 the planner
 * goes by that entry.
 */
extern void cq_compat_restore_groups(Query *query);

/* A copy of the permission entry of a range table entry; NULL where the entry itself has it. */
static inline Node *
cq_compat_rte_permissions(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex == 0)
		return NULL;
	return (Node *) copyObject(getRTEPermissionInfo(query->rteperminfos, rte));
#else
	(void) query;
	(void) rte;
	return NULL;
#endif
}

/* The role with whose rights an entry is read; InvalidOid = that of the session. */
static inline Oid
cq_compat_rte_check_as_user(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex == 0)
		return InvalidOid;
	return getRTEPermissionInfo(query->rteperminfos, rte)->checkAsUser;
#else
	(void) query;
	return rte->checkAsUser;
#endif
}

static inline void
cq_compat_rte_clear_permissions(RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	rte->perminfoindex = 0;
#else
	rte->requiredPerms = 0;
	rte->checkAsUser = InvalidOid;
	rte->selectedCols = NULL;
#endif
}

static inline void
cq_compat_query_clear_permissions(Query *query)
{
#if PG_VERSION_NUM >= 160000
	query->rteperminfos = NIL;
#else
	(void) query;
#endif
}

/* Add a range table entry together with its permission entry (see above). */
static inline void
cq_compat_query_append_rte(Query *query, RangeTblEntry *rte, Node *permissions)
{
	query->rtable = lappend(query->rtable, rte);
#if PG_VERSION_NUM >= 160000
	rte->perminfoindex = 0;
	if (permissions != NULL)
	{
		query->rteperminfos = lappend(query->rteperminfos, copyObject(permissions));
		rte->perminfoindex = list_length(query->rteperminfos);
	}
#else
	(void) permissions;
#endif
}

/* Require SELECT on the first ncolumns columns of a relation in the query's range table. */
static inline void
cq_compat_rte_require_select(Query *query, RangeTblEntry *rte, int ncolumns)
{
	Bitmapset *columns = NULL;
	int i;

	for (i = 1; i <= ncolumns; i++)
		columns = bms_add_member(columns, i - FirstLowInvalidHeapAttributeNumber);
#if PG_VERSION_NUM >= 160000
	{
		RTEPermissionInfo *permissions = makeNode(RTEPermissionInfo);

		permissions->relid = rte->relid;
		permissions->inh = rte->inh;
		permissions->requiredPerms = ACL_SELECT;
		permissions->selectedCols = columns;
		query->rteperminfos = lappend(query->rteperminfos, permissions);
		rte->perminfoindex = list_length(query->rteperminfos);
	}
#else
	(void) query;
	rte->requiredPerms = ACL_SELECT;
	rte->selectedCols = columns;
#endif
}

/* The entry's relid was changed: let its permission entry follow. */
static inline void
cq_compat_rte_set_relid(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex != 0)
		((RTEPermissionInfo *) list_nth(query->rteperminfos, rte->perminfoindex - 1))->relid =
			rte->relid;
#else
	(void) query;
	(void) rte;
#endif
}

/* ExecutorRun() lost the argument execute_once in 18. */
static inline void
cq_compat_executor_run(QueryDesc *desc)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, 0);
#else
	ExecutorRun(desc, ForwardScanDirection, 0, true);
#endif
}

/* EXPLAIN's state moved to a header of its own in 18. */
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/*
 * For what is stored in a form that another major version may not understand: states
 * of aggregates as they are serialised, and hashes of keys.  Between these versions
 * none has changed of those that exist in both (where an aggregate's state got another
 * type, that is known by its type).
 */
#define CQ_PG_MAJOR			  (PG_VERSION_NUM / 10000)
#define CQ_STATE_OLDEST_MAJOR 15
#define CQ_STATE_NEWEST_MAJOR 18
