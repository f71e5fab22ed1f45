"""nMutant (Wang et al., 2018): Tables 1 and 3 to 6 and Figure 3, measured beside the paper's figures."""
