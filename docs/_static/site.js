// What Sphinx's markup leaves unsaid to a screen reader.
const give = (places, name, value) => document.querySelectorAll(places).forEach((each) => each.setAttribute(name, value));
give("p.caption[role=heading]", "aria-level", "2");
give("dt.sig dl", "role", "list"); // arguments of a long signature
give("dt.sig dl > dd", "role", "listitem");

// Tables of results get a name and the kind of each column, so that the script of the reports lets them sort and be saved.
for (const table of document.querySelectorAll("article table.docutils")) {
  const section = table.closest("section"), rows = [...table.tBodies[0].rows];
  if (!table.tHead || !section || rows.length < 2) continue;
  table.dataset.name = section.querySelector("h1, h2, h3").firstChild.textContent;
  table.parentElement.classList.add("scroll");
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    const cells = rows.map((row) => row.cells[place]), told = cells.filter((cell) => cell.innerText.trim());
    if (!told.length || !told.every((cell) => /^-?\.?\d/.test(cell.innerText.trim()))) return;
    heading.classList.add("number");
    told.forEach((cell) => (cell.dataset.order = parseFloat(cell.innerText.replaceAll(",", ""))));
  });
}
