from tests.faults.report import main

main()
