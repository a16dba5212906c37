// Copy buttons, and an address that always shows what the fields say.
window.fttHub = (() => {
  const names = ["search", "language", "source_base", "dataset", "license", "sort", "deprecated", "target"];
  const defaults = { sort: "name" };
  let ready = false; // until the fields hold what the address says, the address counts

  function fromAddress() {
    const query = new URLSearchParams(window.location.search);
    return names.map((name) =>
      name === "deprecated" ? query.get(name) === "1" : query.get(name) ?? defaults[name] ?? "");
  }

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // no clipboard without https
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  document.addEventListener("click", async (event) => {
    if (event.target.closest("[data-reload]")) return window.location.reload();
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
      await copy(source.textContent);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      window.getSelection().removeAllRanges();
      window.getSelection().addRange(range);
      button.textContent = "Press Ctrl-C";
    }
    button.setAttribute("aria-live", "polite");
    window.setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  return {
    remember(values) {
      if (!ready) return fromAddress();
      const query = new URLSearchParams();
      names.forEach((name, i) => {
        const value = values[i] === true ? "1" : values[i];
        if (value && value !== defaults[name]) query.set(name, value);
      });
      const text = query.toString();
      window.history.replaceState(window.history.state, "", text ? `?${text}` : window.location.pathname);
      return values;
    },
    opened() {
      ready = true;
      const article = document.querySelector("[data-title]");
      if (article) document.title = `${article.dataset.title} · ${document.title}`;
    },
  };
})();
