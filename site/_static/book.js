// What scrolls sideways can be reached by the keyboard: a table, a figure or an equation wider than the page.
const scrolls = () => {
  for (const frame of document.querySelectorAll(".cell_output, .pst-scrollable-table-container, div.math, pre")) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
  }
};
addEventListener("load", scrolls);
addEventListener("resize", scrolls);
