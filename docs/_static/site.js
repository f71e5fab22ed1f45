// What Sphinx's markup leaves unsaid to a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  const give = (places, name, value) => document.querySelectorAll(places).forEach((each) => each.setAttribute(name, value));
  give("p.caption[role=heading]", "aria-level", "2");
  give("dt.sig dl", "role", "list"); // arguments of a long signature
  give("dt.sig dl > dd", "role", "listitem");
});
