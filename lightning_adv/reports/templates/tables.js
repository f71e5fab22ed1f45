// Headings of tables sort; buttons below each table copy it and save it. Without this script the tables are as they were.
const value = cell => cell?.dataset.value ?? cell?.innerText.trim().replace(/\s+/g, " ") ?? "";
const isTold = text => text !== "" && text !== "–";

function sort(table, place) {
  const heading = table.tHead.rows[0].cells[place], body = table.tBodies[0];
  const numeric = heading.classList.contains("number");
  const before = heading.getAttribute("aria-sort");
  const sign = (before ? before === "descending" : !numeric) ? 1 : -1;  // figures begin with the best, names with A
  const key = row => row.cells[place]?.dataset.order ?? value(row.cells[place]);
  const order = (a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b), undefined, {numeric: true});
  const rows = [...body.rows];
  body.append(...rows.filter(row => isTold(key(row))).sort((a, b) => sign * order(a, b)), ...rows.filter(row => !isTold(key(row))));
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

const cells = table => [...table.rows].map(row => [...row.cells].map(value));
const inert = text => /^[=+@\t\r]|^-(?!\d)/.test(text) ? `'${text}` : text;  // no spreadsheet takes it for a formula
const csv = rows => rows.map(row => row.map(text => `"${inert(text).replaceAll('"', '""')}"`).join(",")).join("\n") + "\n";

function save(table) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(cells(table))], {type: "text/csv"}));
  link.download = `${table.dataset.name.replace(/[^\w.-]+/g, "_")}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function copy(table, button) {
  const text = cells(table).map(row => row.map(inert).join("\t")).join("\n");
  button.textContent = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Not allowed to copy");
}

for (const table of document.querySelectorAll("table[data-name]")) {
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    const button = heading.querySelector("button") ?? document.createElement("button");
    if (!button.isConnected) {
      button.append(...heading.childNodes);
      heading.append(button);
    }
    button.type = "button";
    button.addEventListener("click", () => sort(table, place));
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  for (const [name, act] of [["Copy", copy], ["Save as CSV", save]]) {
    if (act === copy && !navigator.clipboard) continue;
    const button = Object.assign(document.createElement("button"), {type: "button", textContent: name});
    button.setAttribute("aria-label", `${name}: ${table.dataset.name}`);
    button.addEventListener("click", () => act(table, button));
    tools.append(button);
  }
  table.closest(".scroll").after(tools);
}
