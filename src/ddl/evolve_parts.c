/*
 * evolve_parts.c
 *	  Relations of a continuous view get more columns: see evolve.c.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "commands/view.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/tables.h"
#include "ddl/evolve_parts.h"
#include "ddl/identity.h"
#include "ddl/parts.h"
#include "sink/late_table.h"

static void change_result(const CqEvolution *evolution);
static void groups_rename(const CqEvolution *evolution);
static void column_rename(Oid table, const char *from, const char *to);
static void change_late(const CqEvolution *evolution);
static List *late_places(const CqLateLayout *before, const CqLateLayout *after);
static bool has_rows(Oid table);
static List *free_late_names(Oid table, const CqLateLayout *layout, List *places, int *natts);
static void table_extend(const CqEvolution *evolution, Oid table, List *columns);
static void view_redefine(Oid relation, const Query *query);
static void columns_add(Oid relation, List *columns, AlterTableType subtype);
static ColumnDef *column_like(const char *name, Form_pg_attribute att);

/* As the system, and seen by no event trigger; as they were created (parts.c). */
void
cq_evolve_parts(const CqEvolution *evolution)
{
	const CqView *view = evolution->view;
	CqIdentity saved;

	EventTriggerInhibitCommandCollection();
	PG_TRY();
	{
		cq_identity_system(&saved);
		LockRelationOid(view->view, AccessExclusiveLock);
		view_redefine(view->query, evolution->query);
		change_result(evolution);
		if (OidIsValid(view->late))
			change_late(evolution);
		view_redefine(view->view, cq_parts_definition(view, evolution->after));
		cq_identity_restore(&saved);
	}
	PG_FINALLY();
	{
		EventTriggerUndoInhibitCommandCollection();
	}
	PG_END_TRY();
}

static void
change_result(const CqEvolution *evolution)
{
	const CqPlan *plan = evolution->after;
	bool of_groups = plan->emit == CQ_EMIT_CHANGES && !plan->replaced;
	TupleDesc desc = of_groups ? plan->closed_desc : plan->result_desc;
	Oid table = evolution->view->result;
	int natts = cq_relation_natts(table);
	List *columns = NIL;
	int i;

	if (of_groups)
		groups_rename(evolution);
	for (i = 0; i < desc->natts; i++)
	{
		char *name = psprintf("c%d", i + 1);

		if (get_attnum(table, name) == InvalidAttrNumber)
			columns = lappend(columns, column_like(name, TupleDescAttr(desc, i)));
	}
	table_extend(evolution, table, columns);
	cq_parts_record_columns(table, evolution->view->view, natts + 1);
}

/* Aggregates of HAVING come after those of the columns, the new ones included. */
static void
groups_rename(const CqEvolution *evolution)
{
	const CqConversion *conversion = &evolution->conversions[0];
	const CqPlan *plan = evolution->after;
	Oid table = evolution->view->result;
	int i;

	for (i = 0; i < plan->naggregates; i++)
		if (conversion->origin[i] >= 0 && conversion->origin[i] != i)
			column_rename(table,
						  psprintf("c%d", plan->nkeys + conversion->origin[i] + 1),
						  psprintf("m%d", plan->nkeys + i + 1));
	for (i = 0; i < plan->naggregates; i++)
		if (conversion->origin[i] >= 0 && conversion->origin[i] != i)
			column_rename(table,
						  psprintf("m%d", plan->nkeys + i + 1),
						  psprintf("c%d", plan->nkeys + i + 1));
}

static void
column_rename(Oid table, const char *from, const char *to)
{
	RenameStmt *stmt = makeNode(RenameStmt);

	stmt->renameType = OBJECT_COLUMN;
	stmt->relationType = OBJECT_TABLE;
	stmt->relation =
		makeRangeVar(get_namespace_name(get_rel_namespace(table)), get_rel_name(table), -1);
	stmt->subname = pstrdup(from);
	stmt->newname = pstrdup(to);
	(void) renameatt(stmt);
	CommandCounterIncrement();
}

/*
 * Late rows that are there do not have what the new columns need: applied to windows they
 * would be counted as if that were null.
 */
static void
change_late(const CqEvolution *evolution)
{
	CqView *view = evolution->view;
	const CqLateLayout *before = cq_late_layout(evolution->before, view->late_places);
	const CqLateLayout *after = cq_late_layout(evolution->after, NIL);
	List *places = late_places(before, after);
	int natts = cq_relation_natts(view->late);
	List *columns;

	if (!list_member_int(places, -1))
		return;
	if (view->options.keep_closed_us > 0 && has_rows(view->late))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("continuous view \"%s\" cannot be altered while there are late rows",
					   evolution->name),
				errdetail("Those in table \"%s\" do not have what the new columns are computed of.",
						  get_rel_name(view->late)),
				errhint("Apply them before with pipeline.apply_late(), or delete them."));
	columns = free_late_names(view->late, after, places, &natts);
	table_extend(evolution, view->late, columns);
	cq_view_set_late_places(view->id, places);
}

/* By column of the new layout where it stands; -1: it is to be added. */
static List *
late_places(const CqLateLayout *before, const CqLateLayout *after)
{
	int *places = palloc(sizeof(int) * Max(after->ncolumns, 1));
	List *list = NIL;
	int stream;
	int i;

	for (i = 0; i < after->ncolumns; i++)
		places[i] = -1;
	for (stream = 0; stream < after->nstreams; stream++)
		for (i = 0; i < after->nattributes[stream]; i++)
		{
			int number = after->numbers[stream][i];
			int place = cq_late_place(before, stream, i);

			if (number >= 0 && place >= 0)
				places[number] = place;
		}
	if (after->nstreams > 1)
		places[after->whose] = before->column_places[before->whose];
	for (i = 0; i < after->ncolumns; i++)
		list = lappend_int(list, places[i]);
	return list;
}

static bool
has_rows(Oid table)
{
	Relation rel = table_open(table, NoLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return found;
}

/* Definitions of the columns to be added; their places are filled in. */
static List *
free_late_names(Oid table, const CqLateLayout *layout, List *places, int *natts)
{
	List *columns = NIL;
	ListCell *lc;

	foreach (lc, places)
	{
		const CqLateColumn *column = &layout->columns[foreach_current_index(lc)];
		const char *name = column->name;

		if (lfirst_int(lc) >= 0)
			continue;
		while (get_attnum(table, name) != InvalidAttrNumber)
			name = psprintf("_%s", name);
		columns =
			lappend(columns, makeColumnDef(name, column->type, column->typmod, column->collation));
		lfirst_int(lc) = (*natts)++;
	}
	return columns;
}

/* As the owner: a domain's constraints are checked for each row that is there. */
static void
table_extend(const CqEvolution *evolution, Oid table, List *columns)
{
	CqIdentity saved;

	cq_identity_owner(evolution->owner, evolution->view->settings, &saved);
	columns_add(table, columns, AT_AddColumn);
	cq_identity_restore(&saved);
}

/* Columns that there are keep their names. */
static void
view_redefine(Oid relation, const Query *query)
{
	Query *definition = copyObject(unconstify(Query *, query));
	int natts = cq_relation_natts(relation);
	List *columns = NIL;
	int attnum = 0;
	ListCell *lc;

	foreach (lc, definition->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Node *expr = (Node *) entry->expr;

		if (entry->resjunk)
			continue;
		if (++attnum <= natts)
			entry->resname = get_attname(relation, attnum, false);
		else
			columns = lappend(columns,
							  makeColumnDef(entry->resname,
											exprType(expr),
											exprTypmod(expr),
											exprCollation(expr)));
	}
	columns_add(relation, columns, AT_AddColumnToView);
	StoreViewQuery(relation, definition, true);
	CommandCounterIncrement();
}

static void
columns_add(Oid relation, List *columns, AlterTableType subtype)
{
	List *commands = NIL;
	ListCell *lc;

	foreach (lc, columns)
	{
		AlterTableCmd *command = makeNode(AlterTableCmd);

		command->subtype = subtype;
		command->def = lfirst(lc);
		command->behavior = DROP_RESTRICT;
		commands = lappend(commands, command);
	}
	if (commands == NIL)
		return;
	AlterTableInternal(relation, commands, false);
	CommandCounterIncrement();
}

static ColumnDef *
column_like(const char *name, Form_pg_attribute att)
{
	return makeColumnDef(name, att->atttypid, att->atttypmod, att->attcollation);
}
