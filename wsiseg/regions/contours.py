"""Corners of label maps, linked to outlines row by row.

Around every vertex of the pixel lattice lie four pixels. A label among them that does not go straight past the vertex
has a corner there, alone in its quarter or missing in one:

      a │ b       a alone  ┘   missing a  ┌      a alone: a differs from b and c
      ──x──       b alone  └   missing b  ┐      missing a: b, c and d are one label, a is not
      c │ d       c alone  ┐   missing c  └
                  d alone  ┌   missing d  ┘

Where a label holds just two diagonal pixels it has two corners, one in each (a pinch): objects are 4-connected.
An outline runs clockwise on the screen, with its object on the right hand, and every corner knows the next one.

Row by row, `edges` holds the corners whose neighbour is still to come: for every vertical edge that goes on below the
row its upper end, once for the outline of the pixel on each side, and likewise the left end of the horizontal edge that
is open at the moment. Only vertices where a row differs from the row above are looked at, eight pixels at a time: most
of a label map costs one comparison of two words.

A part is born at every corner whose two neighbours are both still to come, which may be the top left of a ring. Parts
that turn out to belong to one object are put together (a union-find forest, with a list of the members), and so are, if
they are asked for, objects that touch. An object whose lines are all closed to rings is finished. Tarjan, "Efficiency
of a good but not linear set union algorithm" (1975), https://doi.org/10.1145/321879.321884
"""

from __future__ import annotations

import numpy as np
from numba import njit

from wsiseg.classes import IGNORE

# The tables. numba's cache of a function looks at its own file alone: who changes a column here saves rings.py too.
# Columns of `nodes`, int32, the corners: where, the next corner, the part, the other corner of a pinch (or -1).
X, Y, NEXT, PART, TWIN = range(5)
# Columns of `parts`, int32, as an object: parent in the forest, open lines, own corners, label, corner of birth, the
# next part of the object (or -1), the last one; as a group of objects that touch: parent, how many are unfinished, the
# first and the last one finished, the one finished next (or -1).
PARENT, OPEN, SIZE, LABEL, START, MEMBER, LAST, GROUP, UNFINISHED, HEAD, END, AFTER = range(12)
# `state`, int64: heads of the free lists (through NEXT and MEMBER), entries in use, free entries that the next row asks
# for, finished objects and their corners.
FREE_NODE, FREE_PART, NODES, PARTS, ROOM, CLOSED, CORNERS = range(7)
NODE_COLUMNS, PART_COLUMNS, STATE_SIZE = 5, 12, 7
# `closed`, int32 (n, 2): finished objects in the order they come out, and whether it is the last of its group.

# Open edges: outline of the pixel left of a vertical edge (it runs down) and right of it (up), of the pixel above a
# horizontal edge (it runs left) and below it (right). Corners come row by row and from left to right, so an outline
# arrives along DOWN and RIGHT from a corner that is known, and leaves along UP and LEFT to one that is known.
DOWN, UP, LEFT, RIGHT = range(4)
# Each kind of corner: the pixel it belongs to, the edge that the outline arrives along, the edge it leaves along.
_KINDS = np.array([
    (0, DOWN, LEFT), (1, LEFT, UP), (2, RIGHT, DOWN), (3, UP, RIGHT),  # a, b, c, d alone
    (3, RIGHT, UP), (2, DOWN, RIGHT), (1, UP, LEFT), (0, LEFT, DOWN),  # a, b, c, d missing
    (0, LEFT, LEFT), (2, RIGHT, RIGHT), (0, DOWN, DOWN), (1, UP, UP),  # no turn: above, below, left, right of the edge
])  # fmt: skip
_MISSING_D, _TURNS = 7, 8  # the last kind that is missing; how many kinds are turns
# Which kinds there are, by the pairs of equal pixels: 1 a = b, 2 c = d, 4 a = c, 8 b = d.
_FOUND = np.full((16, 4), -1)
for _pairs, _kinds in {
    0: (0, 1, 2, 3), 1: (2, 3, 8), 2: (0, 1, 9), 4: (1, 3, 10), 8: (0, 2, 11),
    5: (3, 7), 6: (1, 5), 9: (2, 6), 10: (0, 4),
}.items():  # fmt: skip
    _FOUND[_pairs, : len(_kinds)] = _kinds


@njit(cache=True, nogil=True)
def link(block, first, last, y, grouped, nodes, parts, edges, closed, state):  # type: ignore[no-untyped-def]
    """Adds to the outlines what the rows `first` to `last` of a block tell, compared with the row above each.

    Args:
        block: uint8 (rows, 8 n), one column of 0 on the left and at least one on the right
        y: vertex row between row 0 and row 1 of the block
        grouped: keep objects back until all that they touch are finished too, and give an outline a corner that is
            no turn where two other labels meet it
        nodes, parts, closed, state: the tables described above
        edges: int32 (2 × columns + 2), the upper ends of the edges DOWN, of those UP, the left ends of LEFT and RIGHT

    Returns:
        The first row that was not done, because the tables have to be emptied or enlarged; last + 1 when all were.
    """
    columns = block.shape[1]
    found = np.empty(columns, np.int64)
    for row in range(first, last + 1):
        count = _look(block[row - 1], block[row], found)
        state[ROOM] = 4 * count  # corners, and parts, that one vertex can give birth to
        if min(nodes.shape[0] - state[NODES], parts.shape[0] - state[PARTS]) < state[ROOM]:
            return row
        if count:
            _corners(block, row, y + row - 1, found[:count], grouped, nodes, parts, edges, closed, state)
    return last + 1


@njit(cache=True, nogil=True)
def _look(upper, lower, found):  # type: ignore[no-untyped-def]
    """Finds the vertices between two rows where any label has a corner: x for the one behind column x of the block."""
    upper_words, lower_words = upper.view(np.uint64), lower.view(np.uint64)
    count, done = 0, 0
    for k in range(upper_words.size):
        if upper_words[k] != lower_words[k]:
            for x in range(max(done, 8 * k - 1), min(8 * k + 8, upper.size - 1)):
                a, b, c, d = upper[x], upper[x + 1], lower[x], lower[x + 1]
                found[count] = x  # kept or written over: no branch for the processor to guess wrong
                count += ((a != b) | (c != d)) & ((a != c) | (b != d))
            done = 8 * k + 8
    return count


@njit(cache=True, nogil=True)
def _corners(block, row, y, found, grouped, nodes, parts, edges, closed, state):  # type: ignore[no-untyped-def]
    """Makes the corners of one row of vertices."""
    columns = block.shape[1]
    labels, at = np.empty(4, np.uint8), np.empty(4, np.int64)
    for x in found:
        labels[0], labels[1] = a, b = block[row - 1, x], block[row - 1, x + 1]
        labels[2], labels[3] = c, d = block[row, x], block[row, x + 1]
        slots = (x, columns + x, 2 * columns, 2 * columns + 1)
        pairs = (a == b) + 2 * (c == d) + 4 * (a == c) + 8 * (b == d)
        finished = -1
        at[:] = -1
        for i in range(4):
            kind = _FOUND[pairs, i]
            if kind < 0 or (kind >= _TURNS and not grouped):
                break
            pixel, arrives, leaves = _KINDS[kind, 0], _KINDS[kind, 1], _KINDS[kind, 2]
            if labels[pixel] == 0:
                continue
            n = state[FREE_NODE]
            state[FREE_NODE] = nodes[n, NEXT]
            state[NODES] += 1
            before = edges[slots[arrives]] if arrives in (DOWN, RIGHT) else -1
            after = edges[slots[leaves]] if leaves in (UP, LEFT) else -1
            if before >= 0:
                part = nodes[before, PART]
                nodes[before, NEXT] = n
            else:
                edges[slots[arrives]] = n
            if after >= 0:
                part = nodes[after, PART]
                nodes[n, NEXT] = after
            else:
                edges[slots[leaves]] = n
            if before < 0 and after < 0:
                part = _new_part(labels[pixel], n, parts, state)
                parts[part, OPEN] = parts[part, UNFINISHED] = 1
            nodes[n, X], nodes[n, Y], nodes[n, PART], nodes[n, TWIN] = x, y, part, -1
            parts[part, SIZE] += 1
            at[pixel] = n
            if kind == _MISSING_D:  # the pixels on the left belong to the same object: so does what bounds them
                left = x
                while block[row, left - 1] == a:
                    left -= 1
                _unite(parts, part, nodes[edges[columns + left - 1], PART])
            elif before >= 0 and after >= 0:
                part = _unite(parts, nodes[before, PART], part)
                parts[part, OPEN] -= 1
                if parts[part, OPEN] == 0:
                    finished = part
        if pairs == 0:
            _pinch(at[0], at[3], a == d, nodes, parts, state)
            _pinch(at[1], at[2], b == c, nodes, parts, state)
        if grouped:
            _touch(at, nodes, parts)
        if finished >= 0:
            _split(finished, nodes, parts)
            _finish(finished, parts, closed, state)


@njit(cache=True, nogil=True)
def _new_part(label, start, parts, state):  # type: ignore[no-untyped-def]
    """A part, and an object and a group of its own, that was born at a corner."""
    part = state[FREE_PART]
    state[FREE_PART] = parts[part, MEMBER]
    state[PARTS] += 1
    parts[part, LABEL], parts[part, START] = label, start
    parts[part, OPEN], parts[part, SIZE], parts[part, UNFINISHED] = 0, 0, 0
    parts[part, PARENT], parts[part, LAST], parts[part, GROUP] = part, part, part
    parts[part, MEMBER], parts[part, HEAD] = -1, -1
    return part


@njit(cache=True, nogil=True)
def _pinch(one, other, same, nodes, parts, state):  # type: ignore[no-untyped-def]
    """Two corners of one label at one vertex: a ring may have to be split here, so that another one starts here."""
    if not same or one < 0:
        return
    nodes[one, TWIN], nodes[other, TWIN] = other, one
    for n in (one, other):
        if parts[nodes[n, PART], START] != n:
            owner = _root(parts, PARENT, nodes[n, PART])
            part = _new_part(parts[owner, LABEL], n, parts, state)
            parts[part, PARENT] = owner
            parts[parts[owner, LAST], MEMBER] = part
            parts[owner, LAST] = part


@njit(cache=True, nogil=True)
def _root(parts, parent, part):  # type: ignore[no-untyped-def]
    """The part that stands for an object (parent is PARENT) or for a group of objects (parent is GROUP)."""
    while parts[part, parent] != part:
        parts[part, parent] = parts[parts[part, parent], parent]
        part = parts[part, parent]
    return part


@njit(cache=True, nogil=True)
def _unite(parts, one, other):  # type: ignore[no-untyped-def]
    """Makes one object of two parts."""
    one, other = _root(parts, PARENT, one), _root(parts, PARENT, other)
    if one == other:
        return one
    if parts[one, OPEN] < parts[other, OPEN]:
        one, other = other, one
    parts[other, PARENT] = one
    parts[one, OPEN] += parts[other, OPEN]
    parts[parts[one, LAST], MEMBER] = other
    parts[one, LAST] = parts[other, LAST]
    group = _group(parts, one, other)
    parts[group, UNFINISHED] -= 1
    return one


@njit(cache=True, nogil=True)
def _group(parts, one, other):  # type: ignore[no-untyped-def]
    """Makes one group of the groups of two objects."""
    one, other = _root(parts, GROUP, one), _root(parts, GROUP, other)
    if one == other:
        return one
    if parts[one, UNFINISHED] < parts[other, UNFINISHED]:
        one, other = other, one
    parts[other, GROUP] = one
    parts[one, UNFINISHED] += parts[other, UNFINISHED]
    if parts[other, HEAD] >= 0:
        if parts[one, HEAD] < 0:
            parts[one, HEAD] = parts[other, HEAD]
        else:
            parts[parts[one, END], AFTER] = parts[other, HEAD]
        parts[one, END] = parts[other, END]
    return one


@njit(cache=True, nogil=True)
def _touch(corners, nodes, parts):  # type: ignore[no-untyped-def]
    """Puts the objects round one vertex into one group; what is ignored holds nothing together."""
    held = -1
    for n in corners:
        if n >= 0 and parts[nodes[n, PART], LABEL] != IGNORE:
            part = _root(parts, PARENT, nodes[n, PART])
            if held >= 0:
                _group(parts, held, part)
            held = part


@njit(cache=True, nogil=True)
def _split(owner, nodes, parts):  # type: ignore[no-untyped-def]
    """Splits the rings of a finished object where they come back to a vertex.

    Both corners of a pinch within one object lie on one ring; to exchange what comes after them makes two rings of it.
    The rings touch and never cross, so that one split does not get in another's way.
    """
    part = owner
    while part >= 0:
        n = parts[part, START]
        twin = nodes[n, TWIN]
        if twin >= 0 and _root(parts, PARENT, nodes[twin, PART]) == owner:
            nodes[n, NEXT], nodes[twin, NEXT] = nodes[twin, NEXT], nodes[n, NEXT]
            nodes[n, TWIN], nodes[twin, TWIN] = -1, -1
        part = parts[part, MEMBER]


@njit(cache=True, nogil=True)
def _finish(part, parts, closed, state):  # type: ignore[no-untyped-def]
    """Hands out the group of an object if this was the last one in it, in the order the objects were finished."""
    group = _root(parts, GROUP, part)
    if parts[group, HEAD] < 0:
        parts[group, HEAD] = part
    else:
        parts[parts[group, END], AFTER] = part
    parts[group, END], parts[part, AFTER] = part, -1
    parts[group, UNFINISHED] -= 1
    if parts[group, UNFINISHED] > 0:
        return
    part = parts[group, HEAD]
    while part >= 0:
        closed[state[CLOSED], 0], closed[state[CLOSED], 1] = part, parts[part, AFTER] < 0
        state[CLOSED] += 1
        member = part
        while member >= 0:
            state[CORNERS] += parts[member, SIZE]
            member = parts[member, MEMBER]
        part = parts[part, AFTER]
