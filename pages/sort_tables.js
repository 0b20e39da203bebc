// Numbers carry all their digits in data-value; what is undefined stays last whichever way a column is sorted.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const order = new Intl.Collator(undefined, {numeric: true});
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const numbers = !head.classList.contains("text");
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one, column), key(other, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (numbers ? Number(a) - Number(b) : order.compare(a, b));
    });
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...rows);
  }));
}
