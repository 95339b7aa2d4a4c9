/* A table of four columns or more is stacked on a phone (site.css); each cell then names its column. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, column) => {
        cell.dataset.column = names[column] ?? "";
        cell.dataset.empty = cell.textContent.trim() === "";
      });
    }
  }
});
