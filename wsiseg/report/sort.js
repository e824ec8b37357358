
// Sorts the tables that say so: a click on a column's heading sorts by it, the next click the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, n) => row.cells[n].textContent;
  const number = (text) => Number.parseFloat(text.replaceAll(",", ""));
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, n) => {
    if (!head.textContent) return; // a column of pictures
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const numeric = n > 0 && rows.some((row) => !Number.isNaN(number(value(row, n))));
      rows.sort((one, other) => {
        const [a, b] = [value(one, n), value(other, n)];
        if (!numeric) return down ? b.localeCompare(a) : a.localeCompare(b);
        const [x, y] = [number(a), number(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // what is unknown comes last
        return down ? y - x : x - y;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
